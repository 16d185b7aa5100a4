//! What a run leaves in the catalogue: nothing that it created.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use hyper::Uri;
use hyper::header::HeaderValue;
use parking_lot::Mutex;

use super::{Librarian, Revisions, UPLOADS_AT_ONCE};
use crate::client::{Call, Lane};
use crate::gallery::Gallery;

impl Librarian {
    /// Deletes the backgrounds that this run created, several at once, for at most `within`. Returns the ids of those that are
    /// left: time was over, the service did not do it, or somebody has replaced them since, and then they are theirs.
    pub async fn remove_created(
        &self,
        gallery: &Gallery,
        revisions: &Revisions,
        within: Duration,
    ) -> Vec<String> {
        let created = revisions.created();
        let numbers = created.iter().map(|(number, _)| *number);
        let left: &Mutex<BTreeSet<u16>> = &Mutex::new(numbers.collect());
        let parts = created.chunks(created.len().div_ceil(UPLOADS_AT_ONCE).max(1));
        let removing =
            stream::iter(parts).for_each_concurrent(UPLOADS_AT_ONCE, |part| async move {
                let mut lane = self.lane();
                for &(number, version) in part {
                    if self.remove(&mut lane, gallery.id(number), version).await {
                        left.lock().remove(&number);
                    }
                }
            });
        // Whether it came to its end shows in what is left.
        let _ = tokio::time::timeout(within, removing).await;
        let left = left.lock();
        left.iter()
            .map(|number| gallery.id(*number).to_owned())
            .collect()
    }

    /// Deletes this version of a background; whether there is none of the id now.
    async fn remove(&self, lane: &mut Lane, id: &str, version: u32) -> bool {
        let path = format!("/v1/backgrounds/{id}").parse::<Uri>();
        let version = HeaderValue::try_from(format!("\"v{version}\""));
        let (Ok(path), Ok(version)) = (path, version) else {
            return false;
        };
        let answer = lane.call(Call::delete(path, version)).await;
        answer.is_ok_and(|answer| matches!(answer.status, 200 | 204 | 404))
    }
}
