//! Frames over HTTP by either renderer: the same bytes, and a clear word where there is no GPU.
//!
//! Those that need an adapter say so where there is none, and fail with `BACKDROP_NEEDS_GPU_ADAPTER=1`.

mod support;

use support::*;

/// Sizes of what is uploaded, one of them odd.
const PICTURES: [(u32, u32); 3] = [(320, 180), (251, 97), (1, 1)];

/// A picture without two pixels alike nearby.
fn picture(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().expect("a header");
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let pixels: Vec<u8> = (0..width * height * 4).map(|_| next()).collect();
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    file
}

/// A service that draws with `renderer`, with pictures and sessions that look at them in different ways; the ids of those.
fn world(dir: &std::path::Path, renderer: &str) -> (Service, Vec<String>) {
    let service = Service::start(dir, &["--renderer", renderer, "--gpu-software"]);
    let mut client = service.client();
    for (number, (width, height)) in (0..).zip(PICTURES) {
        let path = format!("/v1/backgrounds/picture-{number}");
        client.put(&path, picture(width, height, number)).ok();
    }
    let views = [
        serde_json::json!({}),
        serde_json::json!({ "crop": { "x": 0.25, "y": 0.1, "width": 0.5, "height": 0.7 }, "alpha": 0.4 }),
        serde_json::json!({ "scale": 3.0, "uv_offset": [0.3, -0.9] }),
    ];
    let mut sessions = Vec::new();
    for number in 0..PICTURES.len() {
        for view in &views {
            let body = serde_json::json!({ "background": format!("picture-{number}") });
            let session = client.post("/v1/sessions", body).ok().json();
            let id = session["session"].as_str().expect("an id").to_owned();
            let path = format!("/v1/sessions/{id}/view");
            let json = [("content-type", "application/json")];
            let body = view.to_string();
            client.send("PATCH", &path, &json, body.as_bytes()).ok();
            sessions.push(id);
        }
    }
    (service, sessions)
}

/// Frames of all sessions, asked for all at once, in several sizes and formats.
fn frames(service: &Service, sessions: &[String]) -> Vec<(Vec<u8>, String)> {
    let forms = [
        "width=320&height=180&format=rgba",
        "width=77&height=31&format=png",
        "width=641&height=359&format=jpeg",
    ];
    std::thread::scope(|scope| {
        let asked: Vec<_> = sessions
            .iter()
            .map(|session| {
                scope.spawn(move || {
                    let mut client = service.client();
                    forms.map(|form| {
                        let path = format!("/v1/sessions/{session}/frame?{form}");
                        client.get(&path).ok().body
                    })
                })
            })
            .collect();
        let answered = asked
            .into_iter()
            .flat_map(|one| one.join().expect("frames"));
        answered
            .zip(sessions.iter().flat_map(|_| forms))
            .map(|(frame, form)| (frame, form.to_owned()))
            .collect()
    })
}

fn drawn_by(service: &Service, renderer: &str) -> f64 {
    service.metric(&format!(
        "backdrop_frames_drawn_total{{renderer=\"{renderer}\"}}"
    ))
}

#[test]
fn both_renderers_give_the_same_bytes() {
    if !has_gpu_adapter() {
        return;
    }
    let dirs = [scratch(), scratch()];
    let (cpu, sessions) = world(dirs[0].path(), "cpu");
    let expected = frames(&cpu, &sessions);
    assert_eq!(drawn_by(&cpu, "cpu"), expected.len() as f64);
    let (gpu, sessions) = world(dirs[1].path(), "gpu");
    assert_eq!(gpu.metric("backdrop_gpu_ready"), 1.0);
    for ((frame, form), (expected, _)) in frames(&gpu, &sessions).iter().zip(&expected) {
        assert!(frame == expected, "{form}");
    }
    assert_eq!(drawn_by(&gpu, "gpu"), expected.len() as f64);
    assert_eq!(gpu.metric("backdrop_gpu_uploads_total"), 3.0);
    let held = gpu.memory()["budget"]["by_purpose"]["gpu_staging"].as_u64();
    assert!(held.is_some_and(|bytes| bytes > 0), "{}", gpu.memory());
}

#[test]
fn a_frame_that_a_gpu_drew_is_kept_like_any_other() {
    if !has_gpu_adapter() {
        return;
    }
    let dir = scratch();
    let keeping = ["--renditions-per-background", "8"];
    let arguments = [&["--renderer", "gpu", "--gpu-software"], &keeping[..]].concat();
    let service = Service::start(dir.path(), &arguments);
    let mut client = service.client();
    client.put("/v1/backgrounds/a", picture(320, 180, 1)).ok();
    let body = serde_json::json!({ "background": "a" });
    let session = client.post("/v1/sessions", body).ok().json();
    let id = session["session"].as_str().expect("an id");
    let path = format!("/v1/sessions/{id}/frame?width=64&height=36&format=");
    let mut frames = |form| [(); 3].map(|()| client.get(&format!("{path}{form}")).ok().body);
    for frames in [frames("jpeg"), frames("rgba")] {
        assert!(frames[1] == frames[0] && frames[2] == frames[0]);
    }
    let counted = |result| {
        service.metric(&format!(
            "backdrop_flyweight_rendition_frames_total{{result=\"{result}\"}}"
        ))
    };
    assert_eq!(drawn_by(&service, "gpu"), 2.0, "the first two");
    assert_eq!((counted("kept"), counted("hit")), (1.0, 4.0));
}

/// A picture as a codec for textures likes it: gradients.
fn soft_picture(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let pixels: Vec<u8> = pixels
        .flat_map(|(x, y)| [(x / 2) as u8, (y + x / 3) as u8, (200 - y / 2) as u8])
        .collect();
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    file
}

#[test]
fn a_frame_from_blocks_is_near_the_exact_one_and_has_an_etag_of_its_own() {
    if !has_gpu_adapter() {
        return;
    }
    let dirs = [scratch(), scratch()];
    let by_blocks = [
        "--renderer",
        "gpu",
        "--gpu-software",
        "--gpu-textures",
        "bc7",
        // Its driver compiles the kernel with the first frame.
        "--composite-deadline",
        "50s",
        "--request-timeout",
        "50s",
    ];
    let (mut services, mut paths) = (Vec::new(), Vec::new());
    for (dir, arguments) in dirs.iter().zip([&[][..], &by_blocks[..]]) {
        let service = Service::start(dir.path(), arguments);
        let mut client = service.client();
        client.put("/v1/backgrounds/a", soft_picture(320, 180)).ok();
        let body = serde_json::json!({ "background": "a" });
        let session = client.post("/v1/sessions", body).ok().json();
        let id = session["session"].as_str().expect("an id");
        paths.push(format!(
            "/v1/sessions/{id}/frame?width=320&height=180&format=rgba"
        ));
        services.push(service);
    }
    let [cpu, gpu] = &services[..] else {
        unreachable!("two were started")
    };
    let exact = cpu.client().get(&paths[0]).ok();
    // The first frames are the CPU's, until the blocks are made.
    let inexact = || gpu.metric("backdrop_gpu_inexact_frames_total");
    let near = poll("a frame from blocks", || {
        let answer = gpu.client().get(&paths[1]).ok();
        if inexact() == 0.0 {
            assert!(answer.body == exact.body, "the CPU's are exact");
            assert_eq!(answer.header("etag"), exact.header("etag"));
            return None;
        }
        Some(answer)
    });
    assert!(near.header("etag").starts_with("W/\""), "{near:?}");
    assert_ne!(near.header("etag"), exact.header("etag"));
    let squares = exact.body.iter().zip(&near.body);
    let squares = squares
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum::<f64>();
    let psnr = 10.0 * (255.0_f64.powi(2) * exact.body.len() as f64 / squares).log10();
    assert!(psnr.is_finite() && psnr > 40.0, "{psnr} dB");
    assert_eq!(
        gpu.metric("backdrop_gpu_texture_bytes"),
        57_600.0,
        "a byte for each pixel"
    );
    assert_eq!(gpu.metric("backdrop_gpu_encodes_total{result=\"ok\"}"), 1.0);

    // Who has one of both has what is shown; from a service that draws exactly only the exact one will do.
    let status = |service: &Service, path: &str, tag: &str| {
        let headers = [("if-none-match", tag)];
        service.client().send("GET", path, &headers, b"").status
    };
    for tag in [near.header("etag"), exact.header("etag")] {
        assert_eq!(status(gpu, &paths[1], tag), 304);
    }
    assert_eq!(status(cpu, &paths[0], exact.header("etag")), 304);
    assert_eq!(status(cpu, &paths[0], near.header("etag")), 200);

    // A composite of nothing but the background is the same frame.
    let composite = gpu
        .client()
        .send("POST", &paths[1].replace("/frame?", "/frames?"), &[], b"");
    assert!(composite.ok().body == near.body);
    assert_eq!(inexact(), 2.0);
}

/// With drivers that are not there.
fn without_drivers(arguments: &[&str]) -> (std::process::Command, tempfile::TempDir) {
    let mut command = command();
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(variable, "/nonexistent/driver.json");
    }
    command.env_remove("VK_ADD_DRIVER_FILES").args(arguments);
    (command, scratch())
}

#[test]
fn a_gpu_that_must_be_there_and_is_not_ends_the_start_with_its_mend() {
    for software in ["false", "true"] {
        let arguments = ["serve", "--renderer", "gpu", "--gpu-software", software];
        let (mut command, dir) = without_drivers(&arguments);
        let output = command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg("--data")
            .arg(dir.path().join("data"))
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("--renderer gpu finds none"), "{said}");
        assert!(said.contains("choose --renderer auto or cpu"), "{said}");
    }
}

#[test]
fn without_a_gpu_auto_draws_by_the_cpu_and_says_so_once() {
    let (mut command, dir) = without_drivers(&[]);
    command.env("BACKDROP_LOG_LEVEL", "info");
    let service = Service::start_as(command, dir.path(), &["--log-level", "info"]);
    assert_eq!(
        service
            .log()
            .matches("no GPU: frames are drawn by the CPU")
            .count(),
        1
    );
    assert_eq!(service.metric("backdrop_gpu_ready"), 0.0);
    let mut client = service.client();
    client.put("/v1/backgrounds/a", png(8, 8, [1; 3])).ok();
    let body = serde_json::json!({ "background": "a" });
    let session = client.post("/v1/sessions", body).ok().json();
    let id = session["session"].as_str().expect("an id");
    client
        .get(&format!("/v1/sessions/{id}/frame?width=8&height=8"))
        .ok();
    assert_eq!(drawn_by(&service, "cpu"), 1.0);
}

#[test]
fn a_gpu_in_software_is_not_taken_unasked() {
    if !has_gpu_adapter() {
        return;
    }
    let dir = scratch();
    let service = Service::start(dir.path(), &["--renderer", "auto", "--log-level", "info"]);
    assert!(
        !service.log().contains("software=true"),
        "{}",
        service.log()
    );
}

#[test]
fn settings_of_the_gpu_are_checked() {
    for arguments in [
        ["--renderer", "vulkan"],
        ["--gpu-textures", "bc1"],
        ["--gpu-window", "1s"],
        ["--gpu-batch-max", "0"],
        ["--gpu-staging-bytes", "1KiB"],
        ["--gpu-texture-bytes-max", "0"],
    ] {
        let output = command()
            .arg("serve")
            .args(arguments)
            .output()
            .expect("runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains(&arguments[0][2..]), "{said}");
    }
}
