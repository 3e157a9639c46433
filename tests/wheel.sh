#!/usr/bin/env bash
# Build the wheel, install it into an empty venv and run the main job in an empty folder with its own conf/.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$(dirname "${PYTHON:-python3}")" && pwd)/$(basename "${PYTHON:-python3}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m build --quiet --wheel --outdir "$folder/dist" "$repository"
"$python" -m venv "$folder/venv"
# Most of what is installed is never imported here: compiling it takes longer than the study.
pip="$folder/venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint $repository/constraints.txt"
$pip torch
$pip "$folder"/dist/*.whl

mkdir -p "$folder/empty/conf/loss" && cd "$folder/empty"
printf 'name: cosent\nscale: 7.0\n' >conf/loss/mine.yaml
unset PYTHONPATH
"$folder/venv/bin/embedsweep" train --cfg job -p loss loss=mine | grep -q 'scale: 7.0'
"$folder/venv/bin/embedsweep" train -m loss=mnrl,cosent data.limit=400 trainer.max_steps=20 | tee out.txt
grep -q 'best: trial' out.txt
test -f mlruns/mlflow.db
test -s sweeps/*/report/index.html
echo "the installed wheel works"
