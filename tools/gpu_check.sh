#!/usr/bin/env bash
# What a GPU shows, in one run of at most eight minutes on a machine that reaches no registry:
#   bash tools/gpu_check.sh [FOLDER]     steps.csv, speed.csv, the logs and the report go to FOLDER (default results/gpu)
# Beside it lies gpu-wheels/ (make gpu-wheels). The machine has Python 3.12 with PyTorch and what HAS in gpu_wheels.sh
# names; PYTHON names it where python3 is another. No step ends the others; the exit status is 0 where all passed.
# GPU_CHECK=cpu tries all this out on a processor, at tiny sizes; GPU_CHECK_SECONDS is the time in all.
set -u
cd "$(dirname "$0")/.."
OUT=$(mkdir -p "${1:-results/gpu}" && cd "${1:-results/gpu}" && pwd)
PYTHON=${PYTHON:-python3}
SECONDS_IN_ALL=${GPU_CHECK_SECONDS:-480}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
export PYTHONPATH="$PWD:$WORK/site" PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore MURA_NB_PROFILE=smoke
unset MURA_NB_DATA
FAILED=0
echo step,status,seconds > "$OUT/steps.csv"
: > "$OUT/log.txt"

left() { echo $((SECONDS_IN_ALL - SECONDS > 5 ? SECONDS_IN_ALL - SECONDS : 5)); }

# step NAME SECONDS COMMAND...: run it for so long at most, and for no longer than is left
step() {
    local name=$1 limit=$2 begin=$SECONDS status=passed code
    shift 2
    [ "$limit" -lt "$(left)" ] || limit=$(left)
    timeout --kill-after=5 "$limit" "$@" > "$WORK/all" 2>&1
    code=$?
    tr '\r' '\n' < "$WORK/all" | grep -vE '[0-9]+%\|' > "$WORK/said" # without progress bars
    case $code in
        0) ;;
        124 | 137) status="stopped after $limit s" ;;
        *) status=$(grep -oE '[0-9]+ (of [0-9]+ chapters )?failed[^:=]*' "$WORK/said" | tail -n 1 | tr ',' ';' | xargs)
            status="failed: ${status:-status $code}" ;;
    esac
    [ $code = 0 ] || FAILED=1
    { echo "== $name: $status, $((SECONDS - begin)) s"; cat "$WORK/said"; } >> "$OUT/log.txt"
    echo "$name,$status,$((SECONDS - begin))" >> "$OUT/steps.csv"
    echo "== $name: $status, $((SECONDS - begin)) s"
    tail -n 12 "$WORK/said"
}

pack() { # what was run and rendered, to be looked at elsewhere: tools/report.py --render makes the site of _build/
    local found=()
    for f in _build/smoke _site results/smoke/tables; do [ ! -e $f ] || found+=("$f"); done
    [ ${#found[@]} = 0 ] || tar -czf "$OUT/report.tar.gz" "${found[@]}"
}

needs='import sys, torch, torchvision, timm, skimage, h5py, numba, pandas, matplotlib, sklearn, pytest, rich
print(sys.version, torch.__version__, *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))
sys.exit(not (torch.cuda.is_available() or sys.argv[1:] == ["cpu"]))'
step "what the machine has" 90 "$PYTHON" -c "$needs" "${GPU_CHECK:-}"
step "packages" 90 "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
    --target "$WORK/site" gpu-wheels/*.whl
step "device tests" 90 "$PYTHON" -m pytest -q -p no:cacheprovider -o filterwarnings= tests/test_device.py
step "smoke report with the cells for CUDA" $(($(left) * 2 / 3)) "$PYTHON" tools/report.py --cuda
step "packing" 20 bash -c "$(declare -f pack); OUT='$OUT' pack"
step "speed" 900 "$PYTHON" tools/gpu_speed.py "$OUT/speed.csv" "$(($(left) - 15))" "${GPU_CHECK:-}"
cat "$OUT/steps.csv"
[ ! -f "$OUT/speed.csv" ] || cat "$OUT/speed.csv"
exit $FAILED
