//! Failpoints themselves: what counts as a trigger, and which actions are refused. A binary of its own, because points are global to
//! the process; each test here has its own.
#![cfg(feature = "failpoints")]

use backdrop_service::failpoints::*;

fn count(name: &str) -> u64 {
    let all = triggers();
    all.iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, count)| *count)
}

#[test]
fn counts_only_real_triggers_under_a_rate() {
    configure(FRAMES_RENDER_ERROR, "30%return").expect("valid");
    let fired = (0..1000).filter(|_| hit(FRAMES_RENDER_ERROR)).count() as u64;
    assert!(fired > 0 && fired < 1000);
    assert_eq!(count(FRAMES_RENDER_ERROR), fired);
    remove(FRAMES_RENDER_ERROR).expect("known");
    assert!(!hit(FRAMES_RENDER_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_delay_waits_for_its_argument() {
    configure(STORE_LOAD_DELAY, "1*return(250)").expect("valid");
    let start = tokio::time::Instant::now();
    delay(STORE_LOAD_DELAY).await;
    assert_eq!(start.elapsed().as_millis(), 250);
    remove(STORE_LOAD_DELAY).expect("known");
}

#[test]
fn refuses_a_delay_that_would_delay_nothing() {
    for name in DELAYS {
        for action in [
            "return",
            "10%return",
            "return()",
            "return(0)",
            "return(200ms)",
            "return(-5)",
            "return(0.5)",
            "1*return(5)->return",
        ] {
            assert_eq!(
                configure(name, action),
                Err(ConfigureError::NoDelay(action.to_owned())),
                "{name}"
            );
        }
    }
    // A fault takes no time, and needs none.
    configure(STORE_ARCHIVE_READ_ERROR, "50%3*return").expect("valid");
    configure(STORE_ARCHIVE_SLOW, "50%3*return( 5 )->off").expect("valid");
    remove(STORE_ARCHIVE_READ_ERROR).expect("known");
    remove(STORE_ARCHIVE_SLOW).expect("known");
}

#[test]
fn every_point_that_waits_is_known_as_one() {
    assert!(DELAYS.iter().all(|name| ALL.contains(name)));
    let named = ALL
        .iter()
        .filter(|name| name.ends_with(".delay") || name.ends_with(".slow"));
    assert_eq!(named.count(), DELAYS.len());
}

#[test]
fn refuses_names_and_actions_it_cannot_count() {
    assert!(matches!(
        configure("no.such", "return"),
        Err(ConfigureError::UnknownName(_))
    ));
    for action in [
        "panic",
        "sleep(10)",
        "50%sleep(1)",
        "",
        "return(",
        "10%panic->return",
    ] {
        assert!(
            configure(CODEC_DECODE_ERROR, action).is_err(),
            "{action} was taken"
        );
    }
}
