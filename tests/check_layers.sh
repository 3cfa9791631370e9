#!/bin/sh
# check_layers.sh BUILD_DIR: the boundaries that the tree promises.
#   1. an include across folders names only embed.h, index.h or api.h, and only downwards
#   2. every symbol that a library exports carries its folder's prefix
#   3. intrinsics only in embed/kernels and index's dot product files
#   4. the top level holds what the README says and nothing else
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
bad=0
fail() { printf '%s\n' "$*"; bad=1; }

# 1. Which folders each folder may look into, and by which header.
check_includes() {
    folder=$1; allowed=$2
    # shellcheck disable=SC2013  # no blanks in names of ours
    for header in $(grep -rhoE '^#include "[^"]+"' --include='*.[ch]' --include='*.cc' --include='*.inc' "$folder" |
                    sed 's/.*"\(.*\)"/\1/' | sort -u); do
        name=$(basename "$header")
        [ -e "$folder/$header" ] || [ -e "$folder/$name" ] || [ -e "$folder/kernels/$name" ] && continue
        case " $allowed " in *" $header "*) continue ;; esac
        case "$name" in onnx.pb-c.h) continue ;; esac # generated in the build folder
        fail "$folder includes \"$header\", which is another folder's"
    done
}
check_includes embed ""
check_includes index ""
check_includes api "embed.h index.h"
check_includes server "embed.h index.h api.h"

# 2. Prefixes; names that a generator or another library's header makes are listed by pattern.
check_prefix() {
    lib=$1; pattern=$2
    [ -f "$lib" ] || { fail "no $lib: build first"; return; }
    names=$(nm -g --defined-only "$lib" | awk 'NF == 3 && $2 != "V" && $2 != "W" && $2 != "u" { print $3 }' |
            grep -vE "$pattern" | sort -u)
    [ -z "$names" ] || fail "$lib exports without its prefix: $names"
}
check_prefix "$build/embed/liblk_embed.a" '^(emb_|EMB_|onnx__|__asan|__odr_asan|_?__)'
check_prefix "$build/index/liblk_index.a" '^(idx_|IDX_|faiss_|_ZN|_ZS|_ZT|_ZdlPv|__asan|__odr_asan|_?__)'
check_prefix "$build/api/liblk_api.a" '^(api_|API_|__asan|__odr_asan|_?__)'

# 3. One place for intrinsics.
# shellcheck disable=SC2013
for f in $(grep -lE '(immintrin|arm_neon)\.h' -r embed index api server 2>/dev/null); do
    case "$f" in embed/kernels/*|index/dot_*|embed/cpu.c) ;; *) fail "$f includes intrinsics" ;; esac
done

# 4. The top level.
if git rev-parse --git-dir >/dev/null 2>&1; then
    for e in $(git ls-tree --name-only HEAD); do
        case "$e" in
        CMakeLists.txt|README.md|Dockerfile|LICENSE|server|embed|index|api|tests|deploy|.*) ;;
        *) fail "the top level holds $e" ;;
        esac
    done
fi
[ "$bad" = 0 ] && echo "layers hold"
exit "$bad"
