//! What black-box tests share: the real binary on ephemeral ports, and a small HTTP client over real sockets.
//!
//! Nothing here imports the service. Waiting is polling with a bound, never a sleep that hopes.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of these helpers"
)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longest wait for anything: generous, since machines are slow and tests assert no times.
const POLLS: usize = 3000;
const POLL: Duration = Duration::from_millis(10);
const SOCKET_TIMEOUT: Duration = Duration::from_secs(60);

pub const BINARY: &str = "application/vnd.backdrop.batch";

/// Says that the calling test did not test what it is for, past the harness, which shows no output of tests that pass.
pub fn say_skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {why}"));
}

/// The same for a test that a host must be able to run where `BACKDROP_TESTS_SKIP_NOTHING=1` says so: fails there.
#[track_caller]
pub fn skipped(why: &str) {
    say_skipped(why);
    let all = std::env::var("BACKDROP_TESTS_SKIP_NOTHING").is_ok_and(|value| value == "1");
    assert!(!all, "skipped: {why}");
}

/// Asks until there is an answer.
pub fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..POLLS {
        if let Some(answer) = ask() {
            return answer;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the interval of a bounded poll of another process"
        )]
        std::thread::sleep(POLL);
    }
    panic!("{what} never came");
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Asserts a problem of this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(
            (json["code"].as_str(), json["status"].as_u64()),
            (Some(code), Some(status.into()))
        );
        assert!(
            ["type", "title", "detail"]
                .iter()
                .all(|key| json[key].is_string()),
            "{json}"
        );
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(
            (200..300).contains(&self.status),
            "{} {}",
            self.status,
            self.text()
        );
        self
    }
}

/// One connection, kept alive.
pub struct Client {
    stream: TcpStream,
    token: Option<String>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream
            .set_read_timeout(Some(SOCKET_TIMEOUT))
            .expect("a timeout");
        stream
            .set_write_timeout(Some(SOCKET_TIMEOUT))
            .expect("a timeout");
        Self {
            stream,
            token: None,
        }
    }

    pub fn with_token(address: SocketAddr, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..Self::new(address)
        }
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: Option<u64>,
    ) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = length {
            head += &format!("content-length: {length}\r\n");
        }
        head + "\r\n"
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let head = self.head(method, path, headers, Some(body.len() as u64));
        self.stream.write_all(head.as_bytes()).expect("sent");
        // The service may refuse from the head alone and close: its answer still counts.
        drop(self.stream.write_all(body));
        self.read(method == "HEAD").expect("an answer")
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&mut self, path: &str, body: impl ToString) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    pub fn put(&mut self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("PUT", path, &[], body.as_ref())
    }

    pub fn binary(&mut self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[("content-type", BINARY)], body)
    }

    /// Reads one answer with a stated length.
    pub fn read(&mut self, bodiless: bool) -> std::io::Result<Answer> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .expect("a status");
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; if bodiless { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

/// The service as a process, killed when dropped.
pub struct Service {
    child: Child,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub pid: u32,
    log: PathBuf,
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backdrop-service"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BACKDROP_")) {
        command.env_remove(name);
    }
    command
}

impl Service {
    /// Starts the service on `dir`, with `arguments` behind the usual ones.
    pub fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(dir, arguments, &[])
    }

    pub fn start_with(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.envs(environment.iter().copied());
        Self::start_as(command, dir, arguments)
    }

    /// Starts it as `command` says, which ends in the binary and gets its arguments, under the pid that it has.
    pub fn start_as(mut command: Command, dir: &Path, arguments: &[&str]) -> Self {
        let ready = dir.join("ready.json");
        drop(std::fs::remove_file(&ready));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--threads",
            "2",
        ]);
        // A flag of the test goes before it.
        command
            .env("BACKDROP_LOG_LEVEL", "warn")
            .arg("--data")
            .arg(dir.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments);
        let log = dir.join("stderr.log");
        let stderr = std::fs::File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stderr(stderr);
        let mut child = command.spawn().expect("starts");
        let text = poll("the ready file", || {
            let ended = child.try_wait().expect("a child");
            assert!(
                ended.is_none(),
                "the service ended at start: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::fs::read_to_string(&ready).ok()
        });
        let json: serde_json::Value = serde_json::from_str(&text).expect("json");
        let address = |key: &str| {
            json[key]
                .as_str()
                .and_then(|text| text.parse().ok())
                .expect("an address")
        };
        let pid = json["pid"].as_u64().expect("a pid") as u32;
        assert_eq!(pid, child.id());
        Self {
            listen: address("listen"),
            admin: address("admin"),
            pid,
            child,
            log,
        }
    }

    pub fn client(&self) -> Client {
        Client::new(self.listen)
    }

    pub fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    pub fn memory(&self) -> serde_json::Value {
        self.admin().get("/debug/memory").ok().json()
    }

    /// One series of `/metrics`, by name and labels as they stand there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin().get("/metrics").ok().text();
        let line = text.lines().find(|line| {
            line.strip_prefix(series)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        let line = line.unwrap_or_else(|| panic!("no series {series}"));
        line.rsplit(' ')
            .next()
            .and_then(|value| value.parse().ok())
            .expect("a number")
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid.to_string())
            .status();
        assert!(status.expect("kill runs").success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        poll("the end", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!(
                "log of the service:\n{}",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

/// Whether `serve` starts with a software GPU here. If not, this says so, and fails where `BACKDROP_NEEDS_GPU_ADAPTER=1` asks for one.
pub fn has_gpu_adapter() -> bool {
    let dir = scratch();
    let mut child = command();
    child
        .args(["serve", "--renderer", "gpu", "--gpu-software"])
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .arg("--data")
        .arg(dir.path().join("data"))
        .arg("--ready-file")
        .arg(dir.path().join("ready.json"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = child.spawn().expect("starts");
    let ready = poll("an end, or the ready file", || {
        let ended = child.try_wait().expect("a child").is_some();
        let ready = dir.path().join("ready.json").exists();
        (ended || ready).then_some(ready)
    });
    drop(child.kill());
    let output = child.wait_with_output().expect("an end");
    if !ready {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let causes = ["no adapter that will do", "without the feature gpu"];
        assert!(causes.iter().any(|cause| said.contains(cause)), "{said}");
        say_skipped(
            "there is no adapter of Vulkan, not even Mesa's lavapipe, or the build has no GPU",
        );
        let needed = std::env::var("BACKDROP_NEEDS_GPU_ADAPTER").is_ok_and(|value| value == "1");
        assert!(!needed, "a GPU adapter is needed: {said}");
    }
    ready
}

/// A directory that goes with the test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A picture of one colour as PNG.
pub fn png(width: u32, height: u32, rgb: [u8; 3]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    writer
        .write_image_data(&rgb.repeat((width * height) as usize))
        .expect("pixels");
    writer.finish().expect("an end");
    file
}

/// A picture of one colour as JPEG.
pub fn jpeg(width: u16, height: u16, rgb: [u8; 3]) -> Vec<u8> {
    let mut file = Vec::new();
    let pixels = rgb.repeat(usize::from(width) * usize::from(height));
    jpeg_encoder::Encoder::new(&mut file, 90)
        .encode(&pixels, width, height, jpeg_encoder::ColorType::Rgb)
        .expect("encodes");
    file
}

/// The pixels of a JPEG, three bytes each.
pub fn decode_jpeg(file: &[u8]) -> (usize, usize, Vec<u8>) {
    let mut decoder =
        zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(file));
    let pixels = decoder.decode().expect("a picture");
    let (width, height) = decoder.dimensions().expect("a size");
    (width, height, pixels)
}

/// A PNG that claims a size and holds next to nothing.
pub fn claimed_png(width: u32, height: u32) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut ihdr = b"IHDR".to_vec();
    ihdr.extend_from_slice(&width.to_be_bytes());
    ihdr.extend_from_slice(&height.to_be_bytes());
    ihdr.extend_from_slice(&[8, 2, 0, 0, 0]);
    for chunk in [ihdr, b"IDAT".to_vec(), b"IEND".to_vec()] {
        file.extend_from_slice(&(chunk.len() as u32 - 4).to_be_bytes());
        file.extend_from_slice(&chunk);
        file.extend_from_slice(&crc32(&chunk).to_be_bytes());
    }
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            }
        })
    })
}

/// A binary batch: kind, epoch, records.
pub fn batch(kind: u8, epoch: u64, records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"BKDP\x01".to_vec();
    body.extend_from_slice(&[kind, 0, 0]);
    body.extend_from_slice(&epoch.to_le_bytes());
    records
        .iter()
        .for_each(|record| body.extend_from_slice(record));
    body
}

pub fn switch_record(session: u64, flyweight: u32) -> Vec<u8> {
    [&session.to_le_bytes()[..], &flyweight.to_le_bytes()[..]].concat()
}

pub fn hex(id: u64) -> String {
    format!("{id:016x}")
}

pub fn from_hex(value: &serde_json::Value) -> u64 {
    u64::from_str_radix(value.as_str().expect("an id"), 16).expect("hexadecimal")
}

/// The crate's folder.
pub fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Side of a texture of half a MiB, as [`Gallery`] shows them.
const GALLERY_SIZE: (u32, u32) = (512, 256);
/// What one of them takes.
pub const GALLERY_TEXTURE: u64 = 512 << 10;

/// A service with backgrounds of different colours, a session on each, and what their frames look like.
pub struct Gallery {
    pub service: Service,
    pub sessions: Vec<String>,
    pub frames: Vec<Vec<u8>>,
}

impl Gallery {
    /// Starts the service, uploads `count` backgrounds unless they are there, and draws each once.
    pub fn open(dir: &Path, arguments: &[&str], count: u8) -> Self {
        let mut gallery = Self {
            service: Service::start(dir, arguments),
            sessions: Vec::new(),
            frames: Vec::new(),
        };
        let mut client = gallery.service.client();
        let (width, height) = GALLERY_SIZE;
        for number in 0..count {
            let path = format!("/v1/backgrounds/wall-{number}");
            if client.get(&path).status == 404 {
                client
                    .put(&path, png(width, height, [number, 7, 255 - number]))
                    .ok();
            }
            let body = serde_json::json!({ "background": format!("wall-{number}") });
            let session = client.post("/v1/sessions", body).ok().json();
            let id = session["session"].as_str().expect("an id");
            gallery.sessions.push(id.to_owned());
            gallery.frames.push(gallery.frame(usize::from(number)));
        }
        gallery
    }

    /// The frame of one session, every pixel as it is.
    pub fn frame(&self, number: usize) -> Vec<u8> {
        let session = &self.sessions[number];
        let path = format!("/v1/sessions/{session}/frame?width=512&height=256&format=rgba");
        let answer = self.service.client().get(&path).ok();
        let pixel = [number as u8, 7, 255 - number as u8, 255];
        let (pixels, _) = answer.body.as_chunks::<4>();
        assert!(
            pixels.iter().all(|found| *found == pixel),
            "other pixels than those of background {number}"
        );
        answer.body
    }

    /// Draws all of them and compares.
    pub fn is_as_it_was(&self) {
        for (number, before) in self.frames.iter().enumerate() {
            assert!(self.frame(number) == *before, "frame {number} differs");
        }
    }

    /// A pass that frees `count` textures. Those that it can spare beside go to the archive.
    pub fn shrink_by(&self, count: u64) -> serde_json::Value {
        let body = serde_json::json!({ "by_bytes": count * GALLERY_TEXTURE });
        self.service.admin().post("/debug/shrink", body).ok().json()
    }

    /// Waits until nothing is on its way to the archive.
    pub fn settle(&self) {
        poll("an empty archive queue", || {
            (self.service.metric("backdrop_archive_queue_textures") == 0.0).then_some(())
        });
    }

    pub fn reads(&self, result: &str) -> f64 {
        let series = format!("backdrop_archive_reads_total{{result=\"{result}\"}}");
        self.service.metric(&series)
    }

    pub fn writes(&self, result: &str) -> f64 {
        let series = format!("backdrop_archive_writes_total{{result=\"{result}\"}}");
        self.service.metric(&series)
    }
}
