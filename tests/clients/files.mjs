// What one release of @huggingface/hub makes of the look-ups and files of Labelwise, as JSON. Runs
// in the folder that the client is installed in:
//
//     node files.mjs '{"url": URL, "model": ID, "access_token": ..., "home": FOLDER}'

import { createRequire } from "node:module";

const load = createRequire(`${process.cwd()}/`);
const hub = load("@huggingface/hub");
const { version } = load("./node_modules/@huggingface/hub/package.json");

const { url: hubUrl, model: repo, access_token: accessToken, home } = JSON.parse(process.argv[2]);
const asked = { hubUrl, repo, accessToken };
console.log = () => {}; // the client reports its progress there

async function all(found) {
  const values = [];
  for await (const value of found) {
    values.push(value);
  }
  return values;
}

const calls = {
  list: () =>
    all(
      hub.listModels({
        hubUrl,
        sort: "trendingScore",
        search: { task: "text-classification", tags: ["license:mit"] },
        additionalFields: ["safetensors", "tags", "inferenceProviderMapping"],
      }),
    ),
  info: () => hub.modelInfo({ hubUrl, name: repo, additionalFields: ["sha", "siblings"] }),
  files: () => all(hub.listFiles({ hubUrl, repo, recursive: true, expand: true })),
  paths: () => hub.pathsInfo({ ...asked, paths: ["config.json", "secret.txt"] }),
  commits: () => all(hub.listCommits({ hubUrl, repo })),
  count: () => hub.countCommits({ hubUrl, repo }),
  exists: async () => [
    await hub.fileExists({ ...asked, path: "config.json" }),
    await hub.fileExists({ ...asked, path: "secret.txt" }),
  ],
  download: async () => (await hub.downloadFile({ ...asked, path: "config.json" })).text(),
  missing: () => hub.fileDownloadInfo({ ...asked, path: "secret.txt" }),
  weights: () => hub.fileDownloadInfo({ ...asked, path: "model.safetensors" }),
  header: async () =>
    (await hub.parseSafetensorsMetadata({ ...asked, computeParametersCount: true }))
      .parameterCount,
  snapshot: () => hub.snapshotDownload({ ...asked, cacheDir: home }),
  caller: async () => (await hub.whoAmI({ hubUrl, accessToken })).name,
  "no access token": () => hub.downloadFile({ hubUrl, repo, path: "config.json" }),
};

const outcomes = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    outcomes[name] = { value: await call() };
  } catch (error) {
    outcomes[name] = { error: error.message, status: error.statusCode };
  }
}
process.stdout.write(`${JSON.stringify({ version, outcomes })}\n`);
