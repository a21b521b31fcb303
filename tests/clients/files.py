"""What huggingface_hub makes of the look-ups and files of Labelwise: its calls, as JSON.

HF_ENDPOINT=<url> HF_TOKEN=<access token> python files.py '{"model": ID, "commit": SHA, ...}'
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.file_download import get_hf_file_metadata, http_get

AT = json.loads(sys.argv[1])
MODEL, NAME, COMMIT = AT["model"], AT["name"], AT["commit"]
HOME = Path(AT["home"])
WRONG = "wrong"
api = HfApi()


def listed(**asked: Any):
    return lambda: [model.id for model in api.list_models(**asked)]


def listed_with(*names: str, **asked: Any):
    def call():
        found = [vars(model) for model in api.list_models(**asked) if model.id == MODEL]
        return [{name: model[name] for name in names} for model in found]

    return call


def content(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def snapshot(folder: str, **asked: Any):
    def call():
        found = Path(snapshot_download(MODEL, cache_dir=HOME / folder, **asked))
        return {"commit": found.name} | {
            "files": {path.name: content(path) for path in sorted(found.iterdir())}
        }

    return call


def download(file: str, **asked: Any):
    return lambda: content(hf_hub_download(MODEL, file, cache_dir=HOME / "one", **asked))


def resumed() -> str:
    """The weights, of which the first half is there already."""
    whole = Path(hf_hub_download(MODEL, "model.safetensors", cache_dir=HOME / "one")).read_bytes()
    path, half = HOME / "half", len(whole) // 2
    path.write_bytes(whole[:half])
    with path.open("ab") as file:
        headers = {"authorization": f"Bearer {api.token or AT['access_token']}"}
        http_get(
            hf_hub_url(MODEL, "model.safetensors"),
            file,
            resume_size=half,
            headers=headers,
            expected_size=len(whole),
        )
    return content(path)


def verified():
    snapshot_download(MODEL, cache_dir=HOME / "checked")
    found = vars(api.verify_repo_checksums(MODEL, cache_dir=HOME / "checked"))
    return {"mismatches": found["mismatches"], "missing": list(found["missing_paths"])}


CALLS = {
    "all": listed(),
    "filter by licence": listed(filter="license:mit"),
    "filter by two": listed(filter=["transformers", "fr"]),
    "filter by nothing that is there": listed(filter="keras"),
    "data set": listed(trained_dataset="sst2"),
    "author": listed(author="org"),
    "search": listed(search="SMALL"),
    "gated": listed(gated=True),
    "not gated": listed(gated=False),
    "apps": listed(apps="ollama"),
    "few parameters": listed(num_parameters="max:1M"),
    "many parameters": listed(num_parameters="min:1M,max:6B"),
    "provider": listed(inference_provider=["hf-inference", "other"]),
    "other provider": listed(inference_provider="together"),
    "newest first": listed(sort="last_modified"),
    "trending": listed(sort="trending_score", limit=2),
    "odd order": listed(sort="size"),
    "full": listed_with("siblings", "tags", "library_name", full=True),
    "config": listed_with("config", "siblings", fetch_config=True),
    "card": listed_with("card_data", cardData=True),
    "expanded": listed_with(
        "safetensors",
        "downloads_all_time",
        "trending_score",
        expand=["safetensors", "downloadsAllTime", "trendingScore", "gguf"],
    ),
    "info": lambda: vars(api.model_info(MODEL)),
    "info with files": lambda: vars(api.model_info(MODEL, files_metadata=True))["siblings"],
    "info at a short commit": lambda: api.model_info(MODEL, revision=COMMIT[:7]).sha,
    "info at a commit too short": lambda: api.model_info(MODEL, revision=COMMIT[:6]).sha,
    "info at a request to merge": lambda: api.model_info(MODEL, revision="refs/pr/1").sha,
    "info of a name": lambda: api.model_info(NAME, files_metadata=True).id,
    "files": lambda: api.list_repo_files(MODEL),
    "files of a name": lambda: api.list_repo_files(NAME),
    "tree": lambda: [vars(file) for file in api.list_repo_tree(MODEL, recursive=True, expand=True)],
    "tree of a folder": lambda: list(api.list_repo_tree(MODEL, "onnx")),
    "paths": lambda: [
        vars(file) for file in api.get_paths_info(MODEL, ["config.json", "nope"], expand=True)
    ],
    "one path": lambda: [file.path for file in api.get_paths_info(NAME, "README.md")],
    "no path": lambda: api.get_paths_info(MODEL, []),
    "refs": lambda: vars(api.list_repo_refs(MODEL, include_pull_requests=True)),
    "commits": lambda: [vars(commit) for commit in api.list_repo_commits(MODEL, formatted=True)],
    "allowed": lambda: api.auth_check(MODEL),
    "not allowed": lambda: api.auth_check(MODEL, token=WRONG),
    "allowed, unknown": lambda: api.auth_check("org/nope"),
    "exists": lambda: [
        api.file_exists(MODEL, "config.json"),
        api.file_exists(NAME, "config.json", revision=COMMIT[:10]),
        api.file_exists(MODEL, "secret.txt"),
        api.file_exists(MODEL, "config.json", revision="v9"),
        api.file_exists("org/nope", "config.json"),
    ],
    "revision exists": lambda: [
        api.revision_exists(MODEL, COMMIT),
        api.revision_exists(MODEL, "v9"),
        api.repo_exists("org/nope"),
    ],
    "metadata": lambda: vars(get_hf_file_metadata(hf_hub_url(MODEL, "model.safetensors"))),
    "one file": download("config.json"),
    "one file, wrong access token": download("README.md", token=WRONG),
    "no such file": download("adapter_config.json"),
    "no such revision": download("config.json", revision="refs/pr/1"),
    "no such model": lambda: hf_hub_download("org/nope", "config.json", cache_dir=HOME / "one"),
    "snapshot": snapshot("all"),
    "snapshot at a short commit": snapshot("short", revision=COMMIT[:12]),
    "snapshot of some": snapshot("some", allow_patterns=["*.json"]),
    "resumed": resumed,
    "verified": verified,
    "whoami": api.whoami,
}


def outcome(call) -> dict[str, Any]:
    try:
        return {"value": call()}
    except Exception as error:  # noqa: BLE001 - it is what the test wants to see
        return {"error": type(error).__name__, "message": str(error)}


def plain(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dict__") else str(value)


print(json.dumps({name: outcome(call) for name, call in CALLS.items()}, default=plain))  # noqa: T201
