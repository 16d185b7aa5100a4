# Backdrop: `just chaos run` is the main job, `just test` runs every test.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments := true

bin_dir := "target/chaos"

# Show the recipes
[private]
default:
    @just --list --unsorted

# Chaos scenarios: `just chaos run`, `run NAME`, `mutants`, `search`, `replay RUN`, `compare A B`, `list`, `explain NAME`, `doctor`
[group('run')]
chaos *args:
    #!/usr/bin/env bash
    set -euo pipefail
    [[ -x {{ bin_dir }}/backdrop-chaos ]] || echo "building the runner, once: some minutes" >&2
    cargo build --release --locked --workspace --quiet --bin backdrop-chaos
    mkdir -p {{ bin_dir }} && cp -f target/release/backdrop-chaos {{ bin_dir }}/
    # Only a run needs the service and the simulator, and only one that can be asked for so is worth building them.
    if [[ "${1:-}" =~ ^(run|replay|mutants|search)$ && " $* " != *" --help "* && " $* " != *" -h "* ]]; then
        {{ bin_dir }}/backdrop-chaos check "$@"
        {{ just_executable() }} _binaries
    fi
    exec {{ bin_dir }}/backdrop-chaos "$@"

# The reference service on 127.0.0.1:7080 (admin 7081); flags go to `backdrop-service serve`
[group('run')]
serve *args:
    cargo run --release --locked --bin backdrop-service -- serve "$@"

# A load scenario against a running service: `just sim mixed --sessions 100000 --duration 30s`
[group('run')]
sim *args:
    cargo run --release --locked --bin backdrop-simulator -- "$@"

# Render the newest (or a named) run again from its run.json
[group('run')]
report run="reports/out/latest" *args:
    cargo run --release --locked --bin report -- render "$@"

# A scenario's figures over the kept runs: `just trend memory-hog --figure switch_p99_ms`
[group('run')]
trend *args:
    cargo run --release --locked --quiet --bin report -- trend "$@"

# Claims beside what the kept runs and the benchmarks measured here, naive and ours: reports/out/scorecard/index.html
[group('run')]
scorecard *args:
    cargo run --release --locked --quiet --bin report -- scorecard "$@"

# The tests of the workspace, with and without the optional features; `just schedules` has those of interleavings
[group('verify')]
test *args:
    cargo test --workspace --locked "$@"
    cargo test --workspace --locked --features backdrop-service/failpoints --test failpoints --test core_failpoints --test failpoint_triggers --test gpu_lost "$@"
    cargo test --workspace --locked --features backdrop-service/chaos-controls --test controls "$@"

# Interleavings of the flyweight core: loom on the slot word, shuttle on slots, flights and residents
[group('verify')]
schedules *args:
    cargo test --workspace --locked --features backdrop-service/loom --test word "$@"
    cargo test --workspace --locked --features backdrop-service/shuttle --lib flyweight::schedules "$@"

# Formatting and clippy, warnings are errors
[group('verify')]
lint:
    cargo fmt --all --check
    cargo fmt --check --manifest-path service/benches/peers/Cargo.toml
    cargo fmt --check --manifest-path service/benches/peers/rust/Cargo.toml
    cargo fmt --check --manifest-path service/fuzz/Cargo.toml
    # The lock files of the workspaces of their own follow what the service depends on.
    cargo update --workspace --locked --quiet --manifest-path service/benches/peers/Cargo.toml
    cargo update --workspace --locked --quiet --manifest-path service/fuzz/Cargo.toml
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --all-targets --features backdrop-service/failpoints,backdrop-service/chaos-controls --locked -- -D warnings
    cargo clippy --workspace --test word --features backdrop-service/loom --locked -- -D warnings
    cargo clippy --workspace --lib --profile test --features backdrop-service/shuttle --locked -- -D warnings

# lint, licences and sources of dependencies (cargo-deny), the bench's own workspace, then every test and schedule
[group('verify')]
check: lint _deny _peers test schedules

# Benchmarks beside moka, quick_cache and foyer; `just bench hit` runs what has that in its name. Needs 5 GiB of memory
[group('verify')]
bench *args:
    #!/usr/bin/env bash
    set -euo pipefail
    # The figures of a whole run are of that run alone; a part of it replaces its own.
    [[ $# -gt 0 ]] || rm -f reports/out/bench/figures.json
    cargo bench -p backdrop-service --locked --bench pixels --bench composite --bench gpu -- "$@"
    # A workspace of its own, since nothing else shall compile the peers; what both need is compiled once.
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" \
        cargo run --release --locked --quiet --manifest-path service/benches/peers/Cargo.toml -- "$@"

# Pixels beside libjpeg-turbo, Pillow, OpenCV, libvips, pixman, libyuv and Rust's own peers, which are fetched below target/
[group('verify')]
bench-peers *args:
    #!/usr/bin/env bash
    set -euo pipefail
    CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    export CARGO_TARGET_DIR
    # Nothing is installed. What cannot be had is said here, and once more by the bench, which goes on without it.
    venv="$CARGO_TARGET_DIR/peers/python" libs="$CARGO_TARGET_DIR/peers/libraries"
    [[ -x "$venv/bin/pip" ]] || python3 -m venv "$venv" || echo "NOT POSSIBLE: a virtual environment of Python" >&2
    while read -r wheel; do
        "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary numpy,opencv-python-headless,pillow,pyvips-binary "$wheel" </dev/null ||
            echo "NOT POSSIBLE: $wheel from PyPI" >&2
    done <service/benches/peers/requirements.txt
    mkdir -p "$libs"
    for package in libjpeg62-turbo libpixman-1-0 libturbojpeg0 libyuv0; do
        # Moved to its place once it is whole.
        [[ -d "$libs/$package" ]] || (
            rm -rf "$libs/new" && mkdir "$libs/new" && cd "$libs/new" &&
                { apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }; } &&
                dpkg-deb -x "$package"_*.deb . && mv "$libs/new" "$libs/$package"
        ) || echo "NOT POSSIBLE: $package as a package of Debian" >&2
    done
    folders=$(find "$libs" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :)
    # For this machine's CPU, which tiny-skia wants to know when it is compiled.
    RUSTFLAGS="-C target-cpu=native" CARGO_TARGET_DIR="$CARGO_TARGET_DIR/peers/rust" \
        cargo build --release --locked --quiet --manifest-path service/benches/peers/rust/Cargo.toml
    export BACKDROP_PYTHON="$venv/bin/python" BACKDROP_RUST_PEERS="$CARGO_TARGET_DIR/peers/rust/release/rust-peers"
    [[ -z "$folders" ]] || export LD_LIBRARY_PATH="$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    cargo run --release --locked --quiet --manifest-path service/benches/peers/Cargo.toml --bin pixel-peers -- "$@"

# Fuzz decode, batch_json or batch_binary for some seconds; needs cargo-fuzz and a C++ compiler
[group('verify')]
fuzz target seconds="60" *args:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2; exit 1; }
    # Compiled into a corner of its own: the flags of a fuzzed build are no others'.
    fuzz="$PWD/service/fuzz" build="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
    mkdir -p "$fuzz/corpus/$1"
    # What it finds goes to the first folder.
    folders=("$fuzz/corpus/$1" "$fuzz/seeds/$1")
    [[ "$1" != decode ]] || folders+=("$PWD/service/tests/fixtures")
    # RUSTC_BOOTSTRAP: the stable compiler of the other builds, for flags that are nightly's. No sanitizer: the allocator's own counts of
    # each thread are what is checked, and it stands in for malloc. The code is safe Rust.
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$build" cargo fuzz run --fuzz-dir "$fuzz" --sanitizer none "$1" "${folders[@]}" -- \
        -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "${@:3}"

# What the simulator measures of a stall of known length, beside what it must be: fifteen seconds on a host that is not busy
[group('verify')]
stall:
    cargo test --release --locked -p backdrop-simulator --test stall -- --include-ignored --nocapture

# The simulator's service time beside that of oha, an independent client, at the same fixed rate: a minute on a host that is not busy
[group('verify')]
cross-check:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v oha >/dev/null || cargo install --locked oha
    cargo build --release --locked --bin backdrop-service
    target="${CARGO_TARGET_DIR:-$PWD/target}"
    BACKDROP_SERVICE="$target/release/backdrop-service" \
        cargo test --release --locked -p backdrop-simulator --test cross_check -- --include-ignored --nocapture

# Write the committed Grafana dashboards again; `check [RUN]` asks every panel about a run, `preview [RUN]` draws it, `schema`
[group('verify')]
dashboards *args:
    #!/usr/bin/env bash
    set -euo pipefail
    [[ "${1:-}" != schema ]] || exec dashboards/schema/generate.sh
    exec cargo run --locked --quiet -p backdrop-dashboards -- "$@"

# Take the README's pictures of the newest (or a named) run: its report, and the dashboards over it; needs Chromium and Prometheus
[group('verify')]
picture run="reports/out/latest":
    #!/usr/bin/env bash
    set -euo pipefail
    browser=${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1 || true)}
    [[ -n "$browser" ]] || { echo "no Chromium found: install the package 'chromium', or name one in CHROMIUM" >&2; exit 1; }
    { command -v "${PROMETHEUS:-prometheus}" && command -v "${PROMTOOL:-promtool}"; } >/dev/null ||
        { echo "no Prometheus found: install the package 'prometheus', or name both in PROMETHEUS and PROMTOOL" >&2; exit 1; }
    run=$(realpath "$1")
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    take() {
        "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
            --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" --virtual-time-budget=4000 \
            --window-size="1200,$2" --screenshot="{{ justfile_directory() }}/docs/$1.png" "file://$3" \
            2>"$work/browser.log" || { cat "$work/browser.log" >&2; exit 1; }
        echo "docs/$1.png"
    }
    # As this tree renders it, whichever build made the run.
    cargo run --locked --quiet --bin report -- render "$run" --out "$work/report"
    {{ just_executable() }} dashboards preview "$run" "$work/preview.html"
    take report 1242 "$work/report/index.html"
    take dashboards 1075 "$work/preview.html"

[private]
_deny:
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
    cargo deny check licenses bans sources

[private]
_peers:
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" cargo clippy --locked --manifest-path service/benches/peers/Cargo.toml -- -D warnings
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/peers/rust" cargo clippy --locked --manifest-path service/benches/peers/rust/Cargo.toml -- -D warnings

# The runner's binaries: the service three times (plain, with failpoints, with the controls' switches).
[private]
_binaries:
    #!/usr/bin/env bash
    set -euo pipefail
    keep() { cmp -s "target/release/$1" "{{ bin_dir }}/$2" || cp -f "target/release/$1" "{{ bin_dir }}/$2"; }
    mkdir -p {{ bin_dir }}
    # Always the whole workspace: cargo then resolves the dependencies' features once and builds each of them once.
    cargo build --release --locked --workspace --features backdrop-service/failpoints
    keep backdrop-service backdrop-service-failpoints
    cargo build --release --locked --workspace --features backdrop-service/chaos-controls
    keep backdrop-service backdrop-service-controls
    cargo build --release --locked --workspace
    keep backdrop-service backdrop-service
    keep backdrop-simulator backdrop-simulator
    keep backdrop-chaos backdrop-chaos
