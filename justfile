# Backdrop: `just chaos run` is the main job, `just test` runs every test.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments := true

bin_dir := "target/chaos"

# Show the recipes
[private]
default:
    @just --list --unsorted

# Chaos scenarios: `just chaos run`, `run NAME`, `mutants`, `replay RUN`, `compare A B`, `list`, `explain NAME`, `doctor`
[group('run')]
chaos *args:
    #!/usr/bin/env bash
    set -euo pipefail
    # Only a run needs the service and the simulator.
    if [[ "${1:-}" =~ ^(run|replay|mutants)$ && " $* " != *" --help "* && " $* " != *" -h "* ]]; then
        {{ just_executable() }} _binaries
    else
        [[ -x {{ bin_dir }}/backdrop-chaos ]] || echo "building the runner, once: some minutes" >&2
        cargo build --release --locked --workspace --quiet --bin backdrop-chaos
        mkdir -p {{ bin_dir }} && cp -f target/release/backdrop-chaos {{ bin_dir }}/
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

# What the simulator measures of a stall of known length, beside what it must be: fifteen seconds on a host that is not busy
[group('verify')]
stall:
    cargo test --release --locked -p backdrop-simulator --test stall -- --include-ignored --nocapture

# Write the committed Grafana dashboards again; `check [RUN]` asks every panel about a run, `preview [RUN]` draws it, `schema`
[group('verify')]
dashboards *args:
    #!/usr/bin/env bash
    set -euo pipefail
    [[ "${1:-}" != schema ]] || exec dashboards/schema/generate.sh
    exec cargo run --locked --quiet -p backdrop-dashboards -- "$@"

# Take the README's picture of the newest (or a named) run's report; needs Chromium
[group('verify')]
picture run="reports/out/latest":
    #!/usr/bin/env bash
    set -euo pipefail
    browser=$(command -v chromium chromium-browser google-chrome | head -n 1 || true)
    [[ -n "$browser" ]] || { echo "no Chromium found: install the package 'chromium'" >&2; exit 1; }
    profile=$(mktemp -d)
    trap 'rm -rf "$profile"' EXIT
    "$browser" --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars --user-data-dir="$profile" \
        --virtual-time-budget=4000 --window-size=1200,1000 --screenshot="{{ justfile_directory() }}/docs/report.png" \
        "file://$(realpath "$1")/index.html"

[private]
_deny:
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
    cargo deny check licenses bans sources

[private]
_peers:
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" cargo clippy --locked --manifest-path service/benches/peers/Cargo.toml -- -D warnings

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
