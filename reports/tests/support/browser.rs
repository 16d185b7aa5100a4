//! Headless Chromium by its DevTools protocol, over a pipe: JSON that ends with a zero byte, no port and no handshake. The protocol's
//! own libraries (chromiumoxide, headless_chrome) generate and compile all of it, tens of thousands of lines, for the dozen calls
//! that are made here.
//!
//! Shared by the crates that make pages. CHROMIUM names the program; where there is none a test says SKIPPED, and fails if
//! BACKDROP_NEEDS_CHROMIUM is set.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

/// What a page is asked once it stands; see there.
const QUESTIONS: &str = include_str!("page.js");
/// A hang ends here; nothing depends on how long an answer takes.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Messages that wait to be read.
const MESSAGES_MAX: usize = 4096;
/// Presses of the tab key after which a page has no end.
const TABS_MAX: usize = 3000;
/// CSS pixels of a picture that people can look at.
const PICTURE_HEIGHT_MAX: f64 = 16_000.0;

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// For messages and files.
    pub name: &'static str,
    /// CSS pixels.
    pub width: u32,
    /// CSS pixels.
    pub height: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
    /// On paper.
    pub print: bool,
    /// A touch screen.
    pub mobile: bool,
}

const fn look(name: &'static str, width: u32, height: u32, scheme: &'static str) -> Look {
    Look {
        name,
        width,
        height,
        scheme,
        print: false,
        mobile: width < 500,
    }
}

/// The ways in which every page is looked at. Paper is what margins of a centimetre leave of A4 at 96 dots an inch, out of a browser
/// that is dark otherwise: what is wider makes the browser print all of it smaller.
pub const LOOKS: [Look; 5] = [
    look("light", 1280, 900, "light"),
    look("dark", 1280, 900, "dark"),
    look("phone", 360, 740, "light"),
    look("phone-dark", 360, 740, "dark"),
    Look {
        print: true,
        ..look("print", 718, 1047, "dark")
    },
];

/// Looks at each page in every way. None of them may have anything wrong with it.
///
/// # Panics
/// If one has.
pub fn check(test: &str, pages: &[(&str, String)]) {
    let Some(mut browser) = start(test) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (name, page) in pages {
        let file = dir.path().join(format!("{name}.html"));
        std::fs::write(&file, page).expect("written");
        for look in LOOKS {
            wrong.extend(browser.wrong(&file, name, look));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A running Chromium; it ends with its value.
pub struct Browser {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    events: VecDeque<Value>,
    calls: u64,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its pipe; a kill makes sure of it.
        self.to = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that CHROMIUM names, or one that is installed.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let candidates = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    candidates.into_iter().find(|file| file.is_file())
}

/// Starts one; none, with a word of it, where there is none.
///
/// # Panics
/// If there is none and BACKDROP_NEEDS_CHROMIUM is set, or if it does not answer.
pub fn start(test: &str) -> Option<Browser> {
    let Some(program) = program() else {
        let why = "there is no Chromium; install the package `chromium`, or name one in CHROMIUM";
        assert!(
            std::env::var_os("BACKDROP_NEEDS_CHROMIUM").is_none(),
            "{test}: {why}"
        );
        eprintln!("SKIPPED, not checked: {test}: {why}");
        return None;
    };
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("sh");
    // The pipe is expected at descriptors 3 and 4.
    command.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#, "sh"]);
    command.arg(&program);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--force-color-profile=srgb",
        "--remote-debugging-pipe",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.expect("a shell");
    let to = child.stdin.take();
    let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
    let (told, from) = sync_channel(MESSAGES_MAX);
    std::thread::spawn(move || {
        let mut message = Vec::new();
        while answers.read_until(0, &mut message).is_ok_and(|n| n > 0) {
            message.pop();
            let value = serde_json::from_slice(&message).expect("the protocol is JSON");
            if told.send(value).is_err() {
                return;
            }
            message.clear();
        }
    });
    let mut browser = Browser {
        child,
        to,
        from,
        events: VecDeque::new(),
        calls: 0,
        _profile: profile,
    };
    browser.call("", "Browser.getVersion", json!({}));
    Some(browser)
}

impl Browser {
    /// Calls a method and waits for its answer; events that come before it are kept.
    fn call(&mut self, session: &str, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut message = json!({"id": id, "method": method, "params": params});
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        let to = self.to.as_mut().expect("it runs");
        to.write_all(&text)
            .and_then(|()| to.flush())
            .expect("it takes calls");
        loop {
            let mut answer = self.next(method);
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].take();
            }
            self.events.push_back(answer);
        }
    }

    fn next(&mut self, awaited: &str) -> Value {
        let next = self.from.recv_timeout(ANSWER_MAX);
        next.unwrap_or_else(|error| panic!("Chromium does not answer {awaited}: {error}"))
    }

    /// Waits for an event of a session.
    fn wait_for(&mut self, session: &str, event: &str) {
        let is = |message: &Value| message["method"] == event && message["sessionId"] == session;
        if self.events.iter().any(is) {
            return;
        }
        loop {
            let message = self.next(event);
            let found = is(&message);
            self.events.push_back(message);
            if found {
                return;
            }
        }
    }

    /// What a page comes to in JavaScript, awaited.
    fn ask(&mut self, session: &str, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call(session, "Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Opens a page, and says in words everything that is wrong with it. Where BACKDROP_SCREENSHOTS names a folder, pictures of it
    /// are left there for people.
    pub fn wrong(&mut self, page: &Path, name: &str, look: Look) -> Vec<String> {
        let target = self.call("", "Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call("", "Target.attachToTarget", target.clone());
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&session, &format!("{domain}.enable"), json!({}));
        }
        // A page is printed out of a window, which is wider than the paper.
        let window = if look.print { LOOKS[1] } else { look };
        self.emulate(&session, window);
        let url = format!("file://{}", page.canonicalize().expect("a page").display());
        self.call(&session, "Page.navigate", json!({"url": url}));
        self.wait_for(&session, "Page.loadEventFired");
        self.ask(&session, QUESTIONS);
        self.ask(&session, "page.drawn()");
        let mut wrong: Vec<String> = Vec::new();
        if look.print {
            self.ask(&session, "dispatchEvent(new Event('beforeprint')), null");
            let asked = format!("page.drawnFor({})", look.width);
            wrong.extend(words(&self.ask(&session, &asked)));
            self.emulate(&session, look);
            self.ask(&session, "page.drawn()");
        }
        let asked = if look.print {
            "page.onPaper()"
        } else {
            "page.onScreen()"
        };
        wrong.extend(words(&self.ask(&session, asked)));
        self.picture(&session, name, look);
        if !look.print {
            wrong.extend(self.tabbed(&session));
        }
        wrong.extend(self.told(&session, &url));
        self.call("", "Target.closeTarget", target);
        self.events.clear();
        wrong
            .into_iter()
            .map(|what| format!("{name}, {}: {what}", look.name))
            .collect()
    }

    fn emulate(&mut self, session: &str, look: Look) {
        let metrics = json!({
            "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.mobile,
        });
        self.call(session, "Emulation.setDeviceMetricsOverride", metrics);
        let media = json!({
            "media": if look.print { "print" } else { "" },
            "features": [{"name": "prefers-color-scheme", "value": look.scheme}],
        });
        self.call(session, "Emulation.setEmulatedMedia", media);
        let focused = json!({"enabled": true});
        self.call(session, "Emulation.setFocusEmulationEnabled", focused);
    }

    /// Goes through the page by its tab key: every stop must be seen and show that it has the focus, and every control be a stop.
    fn tabbed(&mut self, session: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for _ in 0..TABS_MAX {
            for kind in ["keyDown", "keyUp"] {
                let key =
                    json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
                self.call(session, "Input.dispatchKeyEvent", key);
            }
            let stop = self.ask(session, "page.stop()");
            if stop.is_null() {
                wrong.extend(words(&self.ask(session, "page.missed()")));
                return wrong;
            }
            wrong.extend(words(&stop));
        }
        wrong.push(format!(
            "{TABS_MAX} presses of the tab key do not lead through it"
        ));
        wrong
    }

    /// Errors in its console, and whatever it asked of anybody.
    fn told(&mut self, session: &str, url: &str) -> Vec<String> {
        let told = |message: &Value| {
            let params = &message["params"];
            match message["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(format!("threw {}", params["exceptionDetails"])),
                "Runtime.consoleAPICalled" if params["type"] == "error" => {
                    Some(format!("console: {}", params["args"]))
                }
                "Log.entryAdded" if params["entry"]["level"] == "error" => {
                    Some(format!("console: {}", params["entry"]["text"]))
                }
                "Network.requestWillBeSent" => {
                    let asked = params["request"]["url"].as_str().unwrap_or_default();
                    let own = asked == url || asked.starts_with("data:");
                    (!own).then(|| format!("asks for {asked}"))
                }
                _ => None,
            }
        };
        let events = self
            .events
            .iter()
            .filter(|event| event["sessionId"] == session);
        events.filter_map(told).collect()
    }

    /// The whole page for people to look at.
    fn picture(&mut self, session: &str, name: &str, look: Look) {
        let Some(folder) = std::env::var_os("BACKDROP_SCREENSHOTS").map(PathBuf::from) else {
            return;
        };
        std::fs::create_dir_all(&folder).expect("a folder");
        let (ending, taken) = if look.print {
            let paper = json!({"printBackground": true, "paperWidth": 8.27, "paperHeight": 11.69});
            ("pdf", self.call(session, "Page.printToPDF", paper))
        } else {
            let metrics = self.call(session, "Page.getLayoutMetrics", json!({}));
            let height = metrics["cssContentSize"]["height"]
                .as_f64()
                .expect("a height");
            let clip = json!({
                "x": 0, "y": 0, "width": look.width, "height": height.min(PICTURE_HEIGHT_MAX), "scale": 1,
            });
            let whole = json!({"captureBeyondViewport": true, "clip": clip});
            ("png", self.call(session, "Page.captureScreenshot", whole))
        };
        let data = taken["data"].as_str().expect("data");
        let data = BASE64_STANDARD.decode(data).expect("base64");
        let file = folder.join(format!("{name}-{}.{ending}", look.name));
        std::fs::write(file, data).expect("written");
    }
}

fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|word| word.as_str().unwrap_or_default().to_owned())
        .collect()
}
