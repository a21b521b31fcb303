// What one release of @huggingface/inference makes of Labelwise: its calls and their outcomes, as
// JSON. Runs in the folder that the client is installed in:
//
//     node call.mjs '{"open": URL, "guarded": URL, "full": URL, ...}'
//
// `open` lets everybody in, `guarded` wants the access token, and `full` takes no text for now.

import { createRequire } from "node:module";

const load = createRequire(`${process.cwd()}/`);
const { InferenceClient, textClassification } = load("@huggingface/inference");
const { version } = load("./node_modules/@huggingface/inference/package.json");

const { open, guarded, full, model, text, long, access_token: accessToken } = JSON.parse(
  process.argv[2],
);
const [, name] = model.split("/");

/** A call of a client that is made for one URL. */
function at(endpointUrl, args = { inputs: text }, token = undefined, options = {}) {
  return new InferenceClient(token, { endpointUrl, ...options }).textClassification(args);
}

function parameters(given) {
  return () => at(open, { inputs: text, parameters: given });
}

/** A call by model id: what goes to the router and to the Hub is led to the guarded server. */
function byId(args, token = accessToken) {
  const led = (url, init) => {
    const { pathname, search } = new URL(url);
    return fetch(`${guarded}${pathname}${search}`, init);
  };
  return new InferenceClient(token, { fetch: led }).textClassification({ inputs: text, ...args });
}

/** `fetch` as a browser gives it to a page of another site, by the rules of CORS. */
async function pageFetch(url, init) {
  const origin = "https://page.example";
  const names = [...Object.keys(init.headers), "x-hf-bill-to"].map((key) => key.toLowerCase()).sort();
  const headers = {
    origin,
    "access-control-request-method": init.method,
    "access-control-request-headers": names.join(","),
  };
  const preflight = await fetch(url, { method: "OPTIONS", headers });
  const methods = listed(preflight, "access-control-allow-methods");
  const allowed = listed(preflight, "access-control-allow-headers");
  const refused = names.filter((key) => !allowed.includes(key));
  if (!preflight.ok || !methods.includes(init.method) || refused.length)
    throw new TypeError(`the preflight refuses ${init.method} ${refused}`);
  const response = await fetch(url, { ...init, headers: { ...init.headers, origin } });
  for (const answer of [preflight, response])
    if (!["*", origin].includes(answer.headers.get("access-control-allow-origin")))
      throw new TypeError("the origin is refused");
  const seen = ["content-type", ...listed(response, "access-control-expose-headers")];
  const exposed = [...response.headers].filter(([key]) => seen.includes(key));
  return new Response(response.body, { status: response.status, headers: exposed });
}

function listed(response, key) {
  return (response.headers.get(key) ?? "").split(/, */);
}

// Every way to ask for the same.
const plain = {
  "url": () => at(open),
  "url of a model": () => at(`${open}/models/${model}`),
  "endpoint()": () => new InferenceClient().endpoint(open).textClassification({ inputs: text }),
  "function": () => textClassification({ endpointUrl: open, inputs: text }),
  "url and access token": () => at(guarded, { inputs: text }, accessToken),
  "function and access token": () =>
    textClassification({ accessToken, endpointUrl: guarded, inputs: text }),
  "page of another site": () => at(guarded, { inputs: text }, accessToken, { fetch: pageFetch }),
  "softmax": parameters({ function_to_apply: "softmax" }),
  "more keys": () => at(open, { inputs: text, options: { use_cache: false }, foo: 1 }),
  "id": () => byId({ model, provider: "hf-inference" }),
  "id, provider left out": () => byId({ model }),
  "id without namespace": () => byId({ model: name, provider: "hf-inference" }),
};
const other = {
  "top_k": parameters({ top_k: 1 }),
  "sigmoid": parameters({ function_to_apply: "sigmoid" }),
  "none": parameters({ function_to_apply: "none" }),
  "pair": () => at(open, { inputs: { text, text_pair: text } }),
  "long": () => at(open, { inputs: long }),
  "bad parameter": parameters({ function_to_apply: "default" }),
  "no text": () => at(open, { inputs: [] }),
  "no access token": () => at(guarded),
  "wrong access token": () => at(guarded, { inputs: text }, "wrong"),
  "wrong access token, page": () => at(guarded, { inputs: text }, "wrong", { fetch: pageFetch }),
  "unknown model": () => at(`${open}/models/org/nope`),
  "too large": () => at(open, { inputs: "a".repeat(20_000_000) }),
  "too many": () => at(open, { inputs: Array(1025).fill("a") }),
  "busy": () => at(full),
  "id, no access token": () => byId({ model, provider: "hf-inference" }, ""),
};
const lookups = { "unknown id": () => byId({ model: "org/nope", provider: "hf-inference" }) };

/** By name, what each call gives, or what its user is told. */
async function outcomes(calls) {
  const found = {};
  for (const [name, call] of Object.entries(calls)) found[name] = await outcome(call);
  return found;
}

async function outcome(call) {
  try {
    return { value: await call() };
  } catch (error) {
    const { status, requestId } = error.httpResponse ?? {};
    return { error: error.name, message: error.message, status, request_id: requestId };
  }
}

const found = {
  version,
  plain: await outcomes(plain),
  other: await outcomes(other),
  lookups: await outcomes(lookups),
};
console.log(JSON.stringify(found)); // on the last line: the client writes others
