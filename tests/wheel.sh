#!/usr/bin/env bash
# Builds the wheel, installs it into an empty venv and runs the main job in an empty folder with a conf/ of its own.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$(dirname "${PYTHON:-python3}")" && pwd)/$(basename "${PYTHON:-python3}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m build --quiet --wheel --outdir "$folder/dist" "$repository"
"$python" -m venv "$folder/venv"
pip="$folder/venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint $repository/constraints.txt"
$pip torch
$pip "$folder"/dist/*.whl

mkdir -p "$folder/empty/conf/loss" && cd "$folder/empty"
printf 'name: cosent\nscale: 7.0\n' >conf/loss/mine.yaml
unset PYTHONPATH
"$folder/venv/bin/embedsweep" train --cfg job -p loss loss=mine | grep -q 'scale: 7.0'
"$folder/venv/bin/embedsweep" train -m loss=mnrl,cosent data.limit=400 trainer.max_steps=20 | tee out.txt
grep -q 'best: trial' out.txt
test -f mlruns/mlflow.db
echo "the wheel runs by itself"
