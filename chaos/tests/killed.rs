//! The runner killed with SIGKILL at every stage of a run, and the runner together with its reaper. Where the reaper lives nothing is left
//! once it has ended, which it does within ten seconds; where it died, too, the next start refuses, and `doctor --clean` undoes it all.
//!
//! Cells are real where the host allows them; elsewhere the emulation stands in, and processes, folders and logs are looked for alone.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod standin;

use standin::{Bench, LOSES, SCENARIO, faulty, tell};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

/// Far beyond what anything here takes; only a hang reaches it.
const HANG: Duration = Duration::from_secs(120);

/// Who is killed, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Runner,
    ReaperThenRunner,
    RunnerThenReaper,
}

/// Pid and start time, clock ticks after boot.
type Process = (u32, u64);

/// A bench whose runner keeps its undo log in a folder of its own: what is left here on purpose is in no other run's way.
struct Stage {
    bench: Bench,
}

/// What was there when the runner was killed.
struct Left {
    runner: u32,
    reaper: Option<Process>,
    /// Everything below the runner.
    processes: Vec<Process>,
    /// Its undo log, entry by entry, whether still open or not.
    entries: Vec<Value>,
}

impl Stage {
    fn new(scenario: &str) -> Self {
        Self {
            bench: Bench::new(scenario),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.dir.path().join(name)
    }

    /// Has a binary do this before it begins, told apart from what it is asked for its version and schedule.
    fn before(&self, binary: &str, does: &str) {
        let path = self.path(binary);
        let script = fs::read_to_string(&path).unwrap();
        assert!(script.contains("esac\n"));
        fs::write(
            &path,
            script.replacen("esac\n", &format!("esac\n{does}\n"), 1),
        )
        .unwrap();
    }

    fn state(&self, mut command: Command) -> Command {
        command.env("BACKDROP_CHAOS_STATE", self.path("state"));
        command
    }

    fn chaos(&self, words: &[&str]) -> Output {
        let mut command = self.state(Command::new(env!("CARGO_BIN_EXE_backdrop-chaos")));
        command.args(words).output().unwrap()
    }

    /// The undo log of the one runner, empty where there is none.
    fn log(&self) -> String {
        let entries = fs::read_dir(self.path("state")).into_iter().flatten();
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("undo-")
        };
        let log = entries.flatten().map(|e| e.path()).find(named);
        log.map_or_else(String::new, |log| {
            fs::read_to_string(log).unwrap_or_default()
        })
    }

    fn words(&self) -> String {
        fs::read_to_string(self.path("words")).unwrap_or_default()
    }

    /// Whether the load of this trial has sent anything.
    fn sends(&self, trial: &str) -> bool {
        let runs = fs::read_dir(self.path("out")).into_iter().flatten();
        let events = |run: fs::DirEntry| {
            let path = run.path().join(format!("logs/{trial}/events.jsonl"));
            fs::read_to_string(path).unwrap_or_default()
        };
        runs.flatten()
            .any(|run| events(run).contains("\"interval\""))
    }

    /// Starts a run and kills it once it is there; none if it ended before.
    fn kill_when(&self, who: Who, mut there: impl FnMut(&Self) -> bool) -> Option<Left> {
        // What an earlier run sent is no sign of this one's.
        let _ = fs::remove_dir_all(self.path("out"));
        let words = fs::File::create(self.path("words")).unwrap();
        let mut command = self.state(self.bench.command());
        let command = command.stdout(Stdio::null()).stderr(words);
        let mut runner = command.spawn().unwrap();
        let begun = Instant::now();
        while !there(self) {
            if runner.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(begun.elapsed() < HANG, "never there: {}", self.words());
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Some(self.kill(&mut runner, who))
    }

    fn kill(&self, runner: &mut Child, who: Who) -> Left {
        let pid = runner.id();
        // So that nothing new begins while what is there is looked at.
        signal(pid, libc::SIGSTOP);
        wait_until("the runner is stopped", || !"RSD".contains(state(pid)));
        let own = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // A child that has not become its program yet is still called as we are.
        let children = || descendants(pid);
        wait_until("every child is what it is to be", || {
            children().iter().all(|(child, _)| words(*child) != own)
        });
        let processes = children();
        let is_reaper = |(child, _): &&Process| {
            let words = words(*child);
            words.split(|byte| *byte == 0).nth(1) == Some(b"reaper")
        };
        let left = Left {
            runner: pid,
            reaper: processes.iter().find(is_reaper).copied(),
            entries: entries(&self.log()),
            processes,
        };
        let mut end = || {
            runner.kill().unwrap();
            runner.wait().unwrap();
        };
        match (who, left.reaper) {
            (Who::Runner, _) | (_, None) => end(),
            (Who::ReaperThenRunner, Some((reaper, _))) => {
                signal(reaper, libc::SIGKILL);
                end();
            }
            (Who::RunnerThenReaper, Some((reaper, _))) => {
                end();
                signal(reaper, libc::SIGKILL);
            }
        }
        left
    }

    /// That what was left is taken back by whoever it is to be. How long the reaper took, where it was there and lived.
    fn taken_back(&self, who: Who, left: &Left) -> Option<Duration> {
        let begun = Instant::now();
        match left.reaper {
            Some(reaper) if who == Who::Runner => {
                wait_until("the reaper has ended", || !lives(reaper));
                assert_eq!(self.log(), "", "the log is gone");
                self.nothing_left(left);
                Some(begun.elapsed())
            }
            _ => {
                // All but the reaper die with the runner, whoever is left.
                for process in &left.processes {
                    wait_until("the runner's children are gone", || !lives(*process));
                }
                // Without a log nothing had been done, or all of it undone.
                if !self.log().is_empty() {
                    self.refused_until_cleaned();
                }
                self.nothing_left(left);
                None
            }
        }
    }

    fn refused_until_cleaned(&self) {
        let runs = || fs::read_dir(self.path("out")).into_iter().flatten().count();
        let before = runs();
        let output = self.state(self.bench.command()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(255), "{words}");
        assert!(words.contains("chaos doctor --clean"), "{words}");
        assert_eq!(runs(), before, "it began nothing");
        let told = |words: &[&str]| {
            let output = self.chaos(words);
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let looked = told(&["doctor"]);
        assert!(looked.contains("left by a dead runner"), "{looked}");
        assert!(!self.log().is_empty(), "to look undoes nothing");
        let cleaned = told(&["doctor", "--clean"]);
        assert!(!cleaned.contains("NOT undone"), "{cleaned}");
        assert_eq!(self.log(), "", "{cleaned}");
        let again = told(&["doctor"]);
        assert!(!again.contains("left by a dead runner"), "{again}");
    }

    /// By a look of our own at all that the log ever named, and at what it should have.
    fn nothing_left(&self, left: &Left) {
        for process in &left.processes {
            assert!(!lives(*process), "process {process:?} lives on");
        }
        for entry in &left.entries {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            match entry["undo"].as_str().unwrap_or_default() {
                "cgroup" => {
                    let (cell, suffix) = (PathBuf::from(text("path")), format!("-{}", left.runner));
                    let cells = fs::read_dir(cell.parent().unwrap()).unwrap().flatten();
                    let of_runner = |name: &str| {
                        name.starts_with("backdrop-") && name.ends_with(suffix.as_str())
                    };
                    let found = cells.map(|e| e.file_name().to_string_lossy().into_owned());
                    let found: Vec<_> = found.filter(|name| of_runner(name)).collect();
                    assert!(!cell.exists() && found.is_empty(), "{cell:?}, {found:?}");
                }
                "folder" => assert!(!Path::new(&text("path")).exists(), "{entry}"),
                "process" | "continue" => {
                    let number = |key: &str| entry["process"][key].as_u64().unwrap();
                    let process = (number("pid") as u32, number("start_ticks"));
                    assert!(!lives(process), "{entry}");
                }
                "failpoint" => {
                    let answered = TcpStream::connect(text("admin")).is_ok();
                    assert!(!answered, "somebody who may have it armed: {entry}");
                }
                "targets" => {
                    let told = fs::read_to_string(text("path")).unwrap_or_default();
                    assert!(!told.contains(&text("address")), "{told}");
                }
                other => assert!(["homecoming", "undelegate"].contains(&other), "{entry}"),
            }
        }
        for run in fs::read_dir(self.path("out")).into_iter().flatten() {
            let data = run.unwrap().path().join("data");
            assert!(!data.exists(), "{}", data.display());
        }
        let here = self.bench.dir.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&here), "nothing of ours is mounted");
    }

    /// Killed there, by each who may be. The stage can be reached again after that.
    fn killed_at(&self, stage: &str, mut there: impl FnMut(&Self) -> bool) -> Vec<Left> {
        let all = [Who::Runner, Who::ReaperThenRunner, Who::RunnerThenReaper];
        let killed = all.map(|who| {
            for flag in ["reached", "twice"] {
                let _ = fs::remove_file(self.path(flag));
            }
            let left = self.kill_when(who, &mut there);
            let left = left.unwrap_or_else(|| panic!("ended before {stage}: {}", self.words()));
            assert!(left.reaper.is_some(), "{stage}: no reaper stood by");
            if let Some(took) = self.taken_back(who, &left) {
                tell(stage, &format!("the reaper had ended after {took:?}"));
            }
            left
        });
        killed.into()
    }
}

#[expect(unsafe_code, reason = "std sends no signals")]
fn signal(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: no pointers; the pid is that of a runner of ours, or of its reaper, seen a moment ago.
    unsafe { libc::kill(pid, signal) };
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < HANG, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// What is behind the name in /proc/PID/stat: state, parent and so on; none once it is gone.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind = stat.rsplit(')').next()?;
    Some(behind.split_whitespace().map(str::to_owned).collect())
}

fn state(pid: u32) -> char {
    let state = fields(pid).and_then(|fields| fields.first()?.chars().next());
    state.unwrap_or('X')
}

/// Whether it lives; its zombie does not.
fn lives((pid, start): Process) -> bool {
    let Some(fields) = fields(pid) else {
        return false;
    };
    !["Z", "X"].contains(&fields[0].as_str()) && fields.get(19) == Some(&start.to_string())
}

fn descendants(of: u32) -> Vec<Process> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<u32> = pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let children = pids.iter().filter_map(|pid| {
        let fields = fields(*pid)?;
        let start = fields.get(19)?.parse().ok()?;
        (fields[0] != "Z" && fields.get(1)? == &of.to_string()).then_some((*pid, start))
    });
    let mut found: Vec<Process> = children.collect();
    for (pid, _) in found.clone() {
        found.extend(descendants(pid));
    }
    found
}

/// What an undo log ever announced; a line that is cut off announced nothing.
fn entries(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| line.get("open").cloned()).collect()
}

fn lines(log: &str) -> usize {
    log.matches('\n').count()
}

/// How many entries of an undo log are of this kind, and of a process that is called so, open or not.
fn announced(log: &str, undo: &str, what: Option<&str>) -> usize {
    let entries = entries(log);
    let of = |entry: &&Value| {
        entry["undo"] == undo && what.is_none_or(|what| entry["what"].as_str() == Some(what))
    };
    entries.iter().filter(of).count()
}

/// Whether the entry of this process is there and struck off.
fn struck_off(log: &str, what: &str) -> bool {
    let entries = entries(log);
    let entry = entries.iter().find(|entry| entry["what"] == what);
    let Some(number) = entry.and_then(|entry| entry["number"].as_u64()) else {
        return false;
    };
    log.contains(&format!("{{\"closed\":{{\"number\":{number}}}}}"))
}

/// A binary that says that it was reached and stays there.
const STAYS: &str = "touch \"${0%/*}/reached\"; exec sleep 1000";

fn reached(stage: &Stage) -> bool {
    stage.path("reached").exists()
}

fn endless() -> String {
    format!("{}{LOSES}", SCENARIO.replace("\"5s\"", "\"600s\""))
}

#[test]
fn while_the_service_starts() {
    let stage = Stage::new(&endless());
    stage.before("backdrop-service", STAYS);
    stage.killed_at("while the service starts", reached);
}

#[test]
fn while_the_load_is_set_up() {
    let stage = Stage::new(&endless());
    stage.before("backdrop-simulator", STAYS);
    stage.killed_at("while the load is set up", reached);
}

#[test]
fn while_the_load_runs() {
    let stage = Stage::new(&endless());
    stage.killed_at("while the load runs", |stage| stage.sends("small"));
}

/// Every kind of fault that leaves anything but what goes with the service and its cell, and one that changes the cell.
const FAULTS: [(&str, &str); 10] = [
    ("beside", "kind = \"memory_hog\"\namount = \"16MiB\""),
    (
        "below",
        "kind = \"memory_hog\"\namount = \"16MiB\"\nplacement = \"child\"",
    ),
    (
        "inside",
        "kind = \"memory_hog\"\namount = \"16MiB\"\nplacement = \"same\"",
    ),
    (
        "burst",
        "kind = \"burst\"\namount = \"16MiB\"\nrate = \"64MiB\"",
    ),
    ("cache", "kind = \"page_cache\"\namount = \"16MiB\""),
    ("spins", "kind = \"cpu_hog\"\nthreads = 1"),
    (
        "fails",
        "kind = \"failpoint\"\nfailpoint = \"store.load.error\"\naction = \"10%return\"",
    ),
    ("shrinks", "kind = \"limit_shrink\"\nto = \"90%\""),
    ("crawls", "kind = \"slow_clients\"\nclients = 4"),
    ("floods", "kind = \"connection_flood\"\nconnections = 10"),
];

fn with_faults(faults: &str) -> Stage {
    let scenario = faulty(faults)
        .replace("\"10s\"", "\"600s\"")
        .replacen("\"plain\"", "\"failpoints\"", 1)
        .replacen("\"96MiB\"", "\"256MiB\"", 1);
    Stage::new(&scenario)
}

#[test]
fn while_faults_of_every_kind_stand() {
    let fault = |(name, rest): (&str, &str)| {
        format!("[[fault]]\nname = \"{name}\"\n{rest}\nat = \"1s\"\nfor = \"500s\"\n")
    };
    let stage = with_faults(&FAULTS.map(fault).concat());
    // By their times they stand; the log has all that is written down for them by then.
    let names = FAULTS.map(|(name, _)| name).join(", ");
    let stand = |stage: &Stage| {
        let log = stage.log();
        stage
            .words()
            .lines()
            .any(|line| line.ends_with(&format!("| {names}")))
            && announced(&log, "process", Some("memory hog")) == 4
            && announced(&log, "process", Some("cache hog")) == 1
            && announced(&log, "process", Some("CPU hog")) == 1
            && announced(&log, "failpoint", None) == 1
            && announced(&log, "folder", None) == 2
    };
    for left in stage.killed_at("while faults of every kind stand", stand) {
        // Service, simulator, reaper, six hogs.
        assert!(left.processes.len() >= 9, "{:?}", left.processes);
    }
}

#[test]
fn while_the_service_is_stopped() {
    let stop =
        "[[fault]]\nname = \"halts\"\nkind = \"stop\"\nat = \"1s\"\nfor = \"500s\"\n".to_owned();
    let stage = with_faults(&stop);
    let stopped = |stage: &Stage| {
        let entries = entries(&stage.log());
        let halted = entries.iter().find(|entry| entry["undo"] == "continue");
        let pid = halted.and_then(|entry| entry["process"]["pid"].as_u64());
        pid.is_some_and(|pid| state(pid as u32) == 'T')
    };
    stage.killed_at("while the service is stopped", stopped);
}

#[test]
fn while_a_killed_service_starts_again() {
    let kill =
        "[[fault]]\nname = \"dies\"\nkind = \"kill\"\nat = \"1s\"\nrestart_within = \"500s\"\n";
    let stage = with_faults(kill);
    let twice = "d=\"${0%/*}\"; [ -e \"$d/twice\" ] && { touch \"$d/reached\"; exec sleep 1000; }; touch \"$d/twice\"";
    stage.before("backdrop-service-failpoints", twice);
    stage.killed_at("while a killed service starts again", reached);
}

#[test]
fn while_a_trial_is_undone() {
    // The service hears no SIGTERM, so that the runner is kept at ending it.
    let stage = Stage::new(&format!("{}{LOSES}", SCENARIO.replace("\"5s\"", "\"1s\"")));
    stage.before("backdrop-service", "trap '' TERM");
    let undoing = |stage: &Stage| {
        let log = stage.log();
        struck_off(&log, "simulator") && !struck_off(&log, "service")
    };
    stage.killed_at("while a trial is undone", undoing);
}

#[test]
fn while_a_control_runs() {
    let control = LOSES.replace("\"1s\"", "\"600s\"");
    let stage = Stage::new(&format!(
        "{}{control}",
        SCENARIO.replace("\"5s\"", "\"1s\"")
    ));
    for left in stage.killed_at("while a control runs", |stage| stage.sends("small.loses")) {
        let folders = left.entries.iter().filter(|e| e["undo"] == "folder");
        assert_eq!(folders.count(), 2, "of the trial and of its control");
    }
}

/// Killed at each line that the undo log gets, from the first to the last, which is before and after everything that is done.
fn at_each_line(test: &str, of: impl Fn(usize) -> Who) {
    let stage = Stage::new(&format!("{}{LOSES}", SCENARIO.replace("\"5s\"", "\"1s\"")));
    let mut longest = Duration::ZERO;
    for line in 1.. {
        let who = of(line);
        let Some(left) = stage.kill_when(who, |stage| lines(&stage.log()) >= line) else {
            // Cell, folder, service and simulator, of a trial and of its control, each begun and ended.
            assert!(line > 12, "only {line} lines: {}", stage.words());
            tell(
                test,
                &format!("killed at {} lines, reaper {longest:?} at most", line - 1),
            );
            return;
        };
        let took = stage.taken_back(who, &left);
        longest = longest.max(took.unwrap_or_default());
    }
}

#[test]
fn the_runner_at_each_line_of_its_log() {
    at_each_line("the_runner_at_each_line", |_| Who::Runner);
}

#[test]
fn both_at_each_line_of_the_log() {
    let order = [Who::RunnerThenReaper, Who::ReaperThenRunner];
    at_each_line("both_at_each_line", |line| order[line % 2]);
}
