//! The runner's own requests: uploads and session ids across a kill, error answers while failpoints stand, facts at the end.
//!
//! They are few and slow beside the load; what they find is evidence of its own, independent of the simulator.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use tokio::time::Instant;

use crate::admin::{Background, HttpError, Listener};
use crate::observed::Uploads;
use crate::rig::{Rig, Stop};

/// Sessions that watch for error answers.
const CANARIES: usize = 16;
/// Time between two frames asked for by the canaries.
const CANARY_PERIOD: Duration = Duration::from_millis(50);

/// How the service says that there is no such session.
const SESSION_NOT_FOUND: &str = "session_not_found";

const JSON: &str = "application/json";

#[derive(Debug, Deserialize)]
struct Created {
    session: String,
}

#[derive(Debug, Deserialize)]
struct Uploaded {
    checksum: String,
}

/// What was acknowledged before a kill.
#[derive(Debug, Default)]
pub struct BeforeKill {
    catalogue: Vec<Background>,
    uploads: Vec<(String, String, Bytes)>,
    sessions: Vec<String>,
}

impl BeforeKill {
    /// Uploads a few pictures, makes a few sessions and lists the catalogue, all acknowledged when this returns.
    ///
    /// # Errors
    /// The service did not acknowledge one of them.
    pub async fn prepare(public: &Listener) -> Result<Self, HttpError> {
        let listed = public.backgrounds().await?;
        let mut before = Self::default();
        if let Some(model) = listed.first() {
            let source = public.get(&format!("/v1/backgrounds/{}", model.id)).await?;
            for _ in 0..Uploads::STALE_IDS {
                before.sessions.extend(create(public, &model.id).await?);
            }
            for n in 0..Uploads::TRIED {
                let id = format!("probe-{n:04}");
                let path = format!("/v1/backgrounds/{id}");
                let answer = public
                    .send(
                        Method::PUT,
                        &path,
                        &source.content_type,
                        source.body.clone(),
                    )
                    .await?;
                if let (true, Ok(up)) = (
                    answer.ok(),
                    serde_json::from_slice::<Uploaded>(&answer.body),
                ) {
                    before.uploads.push((id, up.checksum, source.body.clone()));
                }
            }
        }
        before.catalogue = listed;
        Ok(before)
    }

    /// What became of the uploads, and ids asked for and cleanly not found. The catalogue is compared by the checksums that it lists,
    /// our own uploads byte for byte.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn compare(&self, public: &Listener) -> Result<(Uploads, (u64, u64)), HttpError> {
        let now = public.backgrounds().await?;
        let same =
            |id: &str, checksum: &str| now.iter().any(|b| b.id == id && b.checksum == checksum);
        let mut missing = self
            .catalogue
            .iter()
            .filter(|b| !same(&b.id, &b.checksum))
            .count();
        for (id, checksum, body) in &self.uploads {
            let there = same(id, checksum)
                && public
                    .get(&format!("/v1/backgrounds/{id}"))
                    .await
                    .is_ok_and(|a| a.ok() && a.body == *body);
            missing += usize::from(!there);
        }
        let mut clean = 0;
        for id in &self.sessions {
            let answer = public.get(&format!("/v1/sessions/{id}")).await?;
            let code = answer.problem_code();
            clean += u64::from(answer.status == 404 && code.as_deref() == Some(SESSION_NOT_FOUND));
        }
        let uploads = Uploads {
            probed: self.uploads.len() as u64,
            checked: (self.catalogue.len() + self.uploads.len()) as u64,
            missing: missing as u64,
        };
        Ok((uploads, (self.sessions.len() as u64, clean)))
    }
}

async fn create(public: &Listener, background: &str) -> Result<Option<String>, HttpError> {
    let body = Bytes::from(format!("{{\"background\":\"{background}\"}}"));
    let answer = public
        .send(Method::POST, "/v1/sessions", JSON, body)
        .await?;
    Ok(serde_json::from_slice::<Created>(&answer.body)
        .ok()
        .map(|c| c.session)
        .filter(|_| answer.ok()))
}

/// Asks for frames over several backgrounds from `from` until `to` and counts answers other than 200, and which of those
/// were problem+json with a code.
pub async fn watch_errors(rig: &Rig, from: Instant, to: Instant, stop: Stop) {
    if !stop.sleep_until(from).await {
        return;
    }
    let Some(service) = rig.service() else { return };
    let sessions = canaries(&service.public).await.unwrap_or_default();
    let (mut seen, mut clean) = (0, 0);
    for session in sessions.iter().cycle() {
        if Instant::now() >= to || !stop.sleep_until(Instant::now() + CANARY_PERIOD).await {
            break;
        }
        let path = format!("/v1/sessions/{session}/frame?width=320&height=192&format=jpeg");
        if let Ok(answer) = service.public.get(&path).await
            && !answer.ok()
        {
            seen += 1;
            clean += u64::from(answer.problem_code().is_some());
        }
    }
    rig.notes.lock().probes.errors = Some((seen, clean));
    for session in &sessions {
        let _ = service
            .public
            .send(
                Method::DELETE,
                &format!("/v1/sessions/{session}"),
                "",
                Bytes::new(),
            )
            .await;
    }
}

async fn canaries(public: &Listener) -> Result<Vec<String>, HttpError> {
    let listed = public.backgrounds().await?;
    let mut sessions = Vec::new();
    // From the end of the list: the load's popularity is highest at its beginning, and resident textures load nothing.
    for background in listed.iter().rev().take(CANARIES) {
        sessions.extend(create(public, &background.id).await?);
    }
    Ok(sessions)
}

/// Facts at the end of the load, while the service still runs. What cannot be had stays unknown.
pub async fn at_the_end(rig: &Rig) {
    let Some(service) = rig.service() else { return };
    if service.process.try_wait().is_some() {
        return;
    }
    let mut admin = service.admin;
    admin.timeout = Duration::from_secs(20);
    let catalogue = service.public.backgrounds().await.ok();
    let memory = admin.memory().await;
    let accesses = admin.accesses().await;
    let mut notes = rig.notes.lock();
    let bytes = |b: &[Background]| b.iter().map(|b| b.width * b.height * 4).sum();
    notes.probes.catalogue_pixel_bytes = catalogue.as_deref().map(bytes);
    match memory {
        Ok(memory) => {
            // Under load there are most sessions; what is left at the end stands in only where the load was not looked at.
            let known = &mut notes.probes.bytes_per_session;
            *known = known.or_else(|| memory.bytes_per_session());
        }
        Err(e) => tracing::debug!("no memory report: {e}"),
    }
    match accesses {
        Ok(accesses) if !accesses.records.is_empty() => notes.probes.accesses = Some(accesses),
        Ok(_) => {}
        Err(e) => tracing::debug!("no access record: {e}"),
    }
}
