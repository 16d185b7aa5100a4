//! Two processes on one data directory: the second one is told, and changes nothing.

mod support;

use std::process::Stdio;
use support::*;

#[test]
fn an_import_beside_a_running_service_is_refused_and_one_after_it_is_not() {
    let (dir, pictures) = (scratch(), scratch());
    std::fs::write(pictures.path().join("beach.png"), png(16, 16, [1; 3])).expect("a picture");
    let import = || {
        command()
            .arg("import")
            .arg(pictures.path())
            .arg("--data")
            .arg(dir.path().join("data"))
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    };
    let service = Service::start(dir.path(), &[]);
    let refused = import();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("another process uses") && said.contains("--data"),
        "{said}"
    );
    // Killed, not stopped: the lock must not outlive its process.
    service.kill();
    assert_eq!(import().status.code(), Some(0));
}
