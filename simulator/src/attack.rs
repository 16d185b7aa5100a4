//! The one file that knows goose: runs gateways, preview users, herder, churner, intruder, sampler and updater as goose users.
//!
//! Goose is a closed model, and each of its users runs one transaction for the whole load: inside it, a gateway keeps
//! its own absolute schedule. Requests do not go through goose's client; each is noted in goose's metrics by hand, one
//! note a request. All users start at once, goose writes no file, installs no signal handler (ours is there first) and
//! prints nothing: its `iterations` would end the attack more directly, but print a line to standard output.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backdrop_reports::load::GooseFigures;
use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{GooseUser, Scenario, Transaction, TransactionFunction};
use goose::metrics::GooseMetrics;
use goose::{GooseAttack, GooseError};

use thiserror::Error;

use crate::churn::Churner;
use crate::cli::Plan;
use crate::gateway::{Gateway, Note, RequestLog};
use crate::herd::Herder;
use crate::penetration::Intruder;
use crate::preview::{self, Previewer};
use crate::shared::Shared;

/// A user whose load is over naps until goose's run time ends.
const NAP: Duration = Duration::from_millis(50);

/// Goose refused to run, or failed.
#[derive(Debug, Error)]
#[error("goose: {0}")]
pub struct AttackError(GooseError);

/// By hand: `#[from]` would make the cause, which the text holds, a source that is printed once more.
impl From<GooseError> for AttackError {
    fn from(cause: GooseError) -> Self {
        AttackError(cause)
    }
}

/// What one goose user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Gateway(usize),
    Previewer(usize),
    Scanner,
    Herder,
    Churner,
    Intruder,
    Sampler,
    Updater,
}

/// The roles of a run, in the order in which goose's users take them.
fn roles(plan: &Plan) -> Vec<Role> {
    let previewers = preview::workers(plan.previews_per_second);
    let mut roles: Vec<Role> = (0..plan.gateways).map(Role::Gateway).collect();
    roles.extend((0..previewers).map(Role::Previewer));
    roles.extend(plan.scanning.map(|_| Role::Scanner));
    roles.extend(plan.herding.map(|_| Role::Herder));
    roles.extend(plan.churn_per_second.map(|_| Role::Churner));
    roles.extend(plan.absent_per_second.map(|_| Role::Intruder));
    roles.push(Role::Sampler);
    roles.extend(plan.hot_update_every.map(|_| Role::Updater));
    roles
}

/// Users of a run: the gate must expect so many.
pub fn users(plan: &Plan) -> u64 {
    roles(plan).len() as u64
}

struct GooseLog<'a>(&'a mut GooseUser);

impl RequestLog for GooseLog<'_> {
    async fn note(&mut self, note: Note) {
        let method = match note.name {
            "frame" => "FRAME",
            "absent" => "ABSENT",
            _ => "SWITCH",
        };
        // Its only error is a bad name, and ours are constants.
        let _ = self
            .0
            .record_custom_request_duration(
                method,
                note.name,
                note.took,
                note.error.is_none(),
                note.status,
                note.error,
            )
            .await;
    }
}

/// Runs the load to its end and returns goose's view of it.
pub async fn run(shared: &Arc<Shared>) -> Result<GooseFigures, AttackError> {
    let roles = Arc::new(roles(&shared.plan));
    let configuration = configuration(shared, roles.len());
    let next = Arc::new(AtomicUsize::new(0));
    let shared = shared.clone();
    let play: TransactionFunction = Arc::new(move |user| {
        let (shared, roles, next) = (shared.clone(), roles.clone(), next.clone());
        Box::pin(async move {
            // Every user takes a role when goose calls it first; later calls come after its load.
            let turn = next.fetch_add(1, Ordering::AcqRel);
            match roles.get(turn) {
                Some(role) => play_role(&shared, *role, user).await,
                None => tokio::time::sleep(NAP).await,
            }
            if let Some(reason) = shared.stop.reason() {
                goose::trigger_killswitch(&format!("{reason:?}"));
            }
            Ok(())
        })
    });
    let scenario =
        Scenario::new("backdrop").register_transaction(Transaction::new(play).set_name("load"));
    let metrics = GooseAttack::initialize_with_config(configuration)?
        // One client for all users, which none of them uses: one each would read the host's certificates so often.
        .set_client_builder_without_cookies(GooseClientBuilder::new().without_cookies())?
        .register_scenario(scenario)
        .execute()
        .await?;
    Ok(figures(&metrics))
}

async fn play_role(shared: &Arc<Shared>, role: Role, user: &mut GooseUser) {
    let clock = shared.gate.arrive(|| shared.start_clock()).await;
    let mut log = GooseLog(user);
    match role {
        Role::Gateway(index) => Gateway::new(shared, index, clock).run(&mut log).await,
        Role::Previewer(index) => {
            let workers = preview::workers(shared.plan.previews_per_second);
            Previewer::stream(shared, index, workers, clock)
                .run(&mut log)
                .await;
        }
        Role::Scanner => {
            if let Some(scanning) = shared.plan.scanning {
                Previewer::scan(shared, scanning, clock).run(&mut log).await;
            }
        }
        Role::Herder => {
            if let Some(herding) = shared.plan.herding {
                Herder::new(shared, herding, clock).run(&mut log).await;
            }
        }
        Role::Churner => {
            if let Some(rate) = shared.plan.churn_per_second {
                Churner::new(shared, rate, clock).run().await;
            }
        }
        Role::Intruder => {
            if let Some(rate) = shared.plan.absent_per_second {
                Intruder::new(shared, rate, clock).run(&mut log).await;
            }
        }
        Role::Sampler => preview::sample_sessions(shared, clock).await,
        Role::Updater => {
            if let Some(every) = shared.plan.hot_update_every {
                preview::update_backgrounds(shared, clock, every).await;
            }
        }
    }
}

fn configuration(shared: &Shared, users: usize) -> GooseConfiguration {
    let mut configuration = GooseConfiguration::default();
    configuration.host = Some(shared.target.url().to_owned());
    configuration.users = Some(users);
    // The default starts one user a second and throws away what it measured until all run.
    configuration.increase_rate = Some("100000".to_owned());
    // Whole seconds; goose waits for a user that is still draining when they are over.
    let seconds = (shared.plan.warmup + shared.plan.duration)
        .as_secs_f64()
        .ceil();
    configuration.run_time = Some(format!("{seconds}s"));
    configuration.no_telnet = true;
    configuration.quiet = 2;
    configuration.no_print_metrics = true;
    configuration.no_transaction_metrics = true;
    configuration.no_scenario_metrics = true;
    configuration.no_error_summary = true;
    configuration
}

fn figures(metrics: &GooseMetrics) -> GooseFigures {
    let mut figures = GooseFigures::default();
    let mut total_us = 0;
    let mut busiest = 0;
    for request in metrics.requests.values() {
        figures.requests += (request.success_count + request.fail_count) as u64;
        figures.failures += request.fail_count as u64;
        total_us += request.raw_data.total_time_us;
        // Goose has no percentiles over several names: those of the commonest stand for all.
        if request.raw_data.counter > busiest {
            busiest = request.raw_data.counter;
            figures.p50_ms = request.raw_data.percentile_us(0.5) as f64 / 1e3;
            figures.p99_ms = request.raw_data.percentile_us(0.99) as f64 / 1e3;
        }
    }
    if figures.requests > 0 {
        figures.mean_ms = total_us as f64 / figures.requests as f64 / 1e3;
    }
    figures
}
