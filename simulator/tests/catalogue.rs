//! The listing of a service that never ends it: an error that names it, and no run that waits for ever.

mod support;

use std::sync::Arc;

use backdrop_simulator::catalogue::{CatalogueError, Librarian};
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::client::Target;
use backdrop_simulator::run;
use backdrop_simulator::shared::Stop;
use support::{Bug, Fake, plan};

async fn listed(bug: Bug) -> Result<usize, CatalogueError> {
    let fake = Fake::start(bug).await;
    let target = Arc::new(Target::new(&fake.url(), None).unwrap());
    let listed = Librarian::new(target).list().await;
    listed.map(|(_, backgrounds)| backgrounds.len())
}

#[tokio::test]
async fn a_listing_that_leads_back_or_nowhere_is_an_error() {
    assert!(matches!(listed(Bug::None).await, Ok(0)));
    for (bug, words) in [
        (Bug::PagesBack, "`next` is \"a\" after \"a\""),
        (Bug::PagesForever, "more than 1000 pages"),
    ] {
        let error = listed(bug).await.unwrap_err();
        assert!(matches!(error, CatalogueError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_run_says_so_before_it_does_anything() {
    let fake = Fake::start(Bug::PagesForever).await;
    let plan = plan(Scenario::SwitchStorm, &fake, &[]);
    let error = run::run(plan, Stop::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 69, "{error}");
}
