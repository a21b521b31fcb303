"""Infinity's own command line; its ONNX engine finds a module of torch where that is now.

python infinity.py v2 --model-id FOLDER ...
"""

from __future__ import annotations

import sys

from torch.onnx._internal.torchscript_exporter import symbolic_opset14


def main() -> None:
    """Serve until told to stop."""
    # optimum 1 imports the private functions of the old one, and uses none of them here
    sys.modules["torch.onnx.symbolic_opset14"] = symbolic_opset14
    from infinity_emb.cli import cli  # noqa: PLC0415 - after that

    cli()


if __name__ == "__main__":
    main()
