//! Backgrounds: upload, list, read, delete. Reading is for everybody, writing needs the role.

use super::Service;
use super::admission::{refused, reserve_answer};
use super::auth::Caller;
use super::body::{self, BodyLimits};
use super::problem::{Kind, Problem};
use super::query::Query;
use super::respond::{self, Answer};
use crate::codec::CodecError;
use crate::flyweight::{
    CatalogueError, Identity, LoadError, Precondition, RemoveError, UploadError, WorkerError,
};
use crate::memory::State;
use crate::memory::budget::{Purpose, ReserveError};
use crate::metrics::UploadResult;
use crate::store::{StoreError, Tags, checksum_text, valid_id};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use std::sync::Arc;

/// Entries of one page of the list.
const LIST_LIMIT: usize = 100;
/// Most entries of one page.
const LIST_LIMIT_MAX: usize = 10_000;
/// Most bytes that one entry of the list takes while it is made: its JSON and the value that is made from.
const LIST_ENTRY_BYTES: usize = 1024;
/// Most bytes of an entry's JSON, its tags apart: each of these takes its own length and three more.
const LIST_ENTRY_JSON_BYTES: usize = 272;
/// Most bytes of a list without entries.
const LIST_BYTES: usize = 256;

#[derive(Serialize)]
struct Metadata<'a> {
    id: &'a str,
    flyweight: u32,
    version: u32,
    width: u32,
    height: u32,
    format: &'static str,
    bytes: u64,
    checksum: String,
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
}

impl<'a> Metadata<'a> {
    fn of(identity: &'a Identity, epoch: Option<u64>) -> Self {
        let stored = &identity.stored;
        Self {
            id: &stored.id,
            flyweight: identity.index,
            version: stored.version,
            width: stored.size.width,
            height: stored.size.height,
            format: stored.format.name(),
            bytes: stored.bytes,
            checksum: checksum_text(stored.checksum),
            tags: stored.tags.sorted(),
            epoch: epoch.map(|epoch| epoch.to_string()),
        }
    }
}

#[derive(Serialize)]
struct Page<'a> {
    epoch: String,
    backgrounds: Vec<Metadata<'a>>,
    next: Option<&'a str>,
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Problem> {
    let mut json = Vec::with_capacity(LIST_ENTRY_JSON_BYTES);
    write_json(&mut json, value)?;
    Ok(json)
}

fn write_json(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Problem> {
    serde_json::to_writer(&mut *out, value).map_err(Problem::internal)?;
    out.push(b'\n');
    Ok(())
}

fn etag(version: u32) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(&format!("\"v{version}\"")).map_err(Problem::internal)
}

fn metadata_answer(
    service: &Service,
    status: StatusCode,
    identity: &Identity,
) -> Result<Answer, Problem> {
    let json = to_json(&Metadata::of(identity, Some(service.flyweights.epoch())))?;
    let mut answer = respond::full(status, respond::JSON, json);
    answer
        .headers_mut()
        .insert(ETAG, etag(identity.stored.version)?);
    Ok(answer)
}

fn checked_id(id: &str) -> Result<&str, Problem> {
    if valid_id(id) {
        Ok(id)
    } else {
        Err(Problem::new(
            Kind::BadRequest,
            "a background's id is of the form [a-z0-9][a-z0-9._-]{0,63}",
        ))
    }
}

/// The condition that `If-Match` and `If-None-Match` state: one version, any, or none at all.
fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    if let Some(value) = headers.get(IF_MATCH) {
        let value = value.as_bytes();
        if value == b"*" {
            return Ok(Precondition::Exists);
        }
        let version = value
            .strip_prefix(b"\"v")
            .and_then(|rest| rest.strip_suffix(b"\""));
        let version = version.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        return version.map(Precondition::Version).ok_or_else(|| {
            Problem::new(
                Kind::PreconditionFailed,
                "If-Match takes one ETag as answers give it, or *",
            )
        });
    }
    match headers.get(IF_NONE_MATCH) {
        Some(value) if value.as_bytes() == b"*" => Ok(Precondition::Absent),
        Some(_) => Err(Problem::new(
            Kind::BadRequest,
            "a write takes If-None-Match only as *",
        )),
        None => Ok(Precondition::None),
    }
}

fn overtaken(current: Option<u32>) -> Problem {
    let detail = match current {
        Some(version) => format!("the present version is \"v{version}\""),
        None => "there is no such background".to_owned(),
    };
    Problem::new(Kind::PreconditionFailed, detail)
}

fn work_failed(cause: impl std::error::Error + Send + Sync + 'static) -> Problem {
    Problem::new(Kind::Internal, "the picture could not be worked on").because(cause)
}

pub(super) fn codec_problem(error: CodecError) -> Problem {
    let kind = match error {
        CodecError::UnknownFormat { .. } => Kind::UnsupportedMedia,
        CodecError::TooLarge { .. } => Kind::PictureTooLarge,
        CodecError::Encode { .. } => return work_failed(error),
        _ => Kind::BrokenPicture,
    };
    Problem::new(kind, error.to_string())
}

fn reserve_problem(service: &Service, error: &ReserveError) -> Problem {
    match error {
        ReserveError::TooLarge { .. } => Problem::new(
            Kind::PictureTooLarge,
            "its pixels would need more memory than the service may ever use",
        ),
        ReserveError::Exhausted { .. } if service.memory.state() == State::Critical => {
            Kind::MemoryCritical.into()
        }
        ReserveError::Exhausted { .. } => refused(error),
    }
}

fn store_problem(cause: StoreError) -> Problem {
    Problem::new(Kind::Internal, "the store failed").because(cause)
}

fn load_problem(service: &Service, error: LoadError) -> Problem {
    match error {
        LoadError::Reserve(refusal) => reserve_problem(service, &refusal),
        LoadError::Codec(error) => codec_problem(error),
        LoadError::Worker(WorkerError::QueueFull) => Kind::QueueFull.into(),
        LoadError::Worker(WorkerError::Panicked) => {
            Problem::new(Kind::BrokenPicture, "the decoder gave up on the picture")
        }
        LoadError::Worker(WorkerError::Stopped) => Kind::Draining.into(),
        LoadError::Store(error) => store_problem(error),
        other if other.is_overload() => Kind::BudgetExhausted.into(),
        other => work_failed(other),
    }
}

fn upload_problem(service: &Service, error: UploadError) -> Problem {
    match error {
        UploadError::Catalogue(CatalogueError::BadId(_)) => {
            Problem::new(Kind::BadRequest, error.to_string())
        }
        UploadError::Catalogue(error) => Problem::new(Kind::CatalogueFull, error.to_string()),
        UploadError::Load(error) => load_problem(service, error),
        UploadError::Store(error) => store_problem(error),
        UploadError::Precondition { current } => overtaken(current),
        UploadError::Interrupted => Problem::from(Kind::OutcomeUnknown).because(error),
    }
}

fn remove_problem(error: RemoveError) -> Problem {
    match error {
        RemoveError::NotFound => Kind::BackgroundNotFound.into(),
        RemoveError::Precondition { current } => overtaken(current),
        RemoveError::Store(error) => store_problem(error),
        RemoveError::Interrupted => Problem::from(Kind::OutcomeUnknown).because(error),
    }
}

fn result_of(problem: &Problem) -> UploadResult {
    let row = problem.kind().row();
    match row.status {
        _ if row.shed.is_some() => UploadResult::Shed,
        500.. => UploadResult::Error,
        _ => UploadResult::Rejected,
    }
}

/// `PUT /v1/backgrounds/{background}`.
///
/// # Errors
/// As the table of problems says; nothing is kept then, but for [`Kind::OutcomeUnknown`], after which it may be.
pub async fn put(
    service: &Service,
    caller: Caller,
    id: &str,
    parts: &Parts,
    query: Query<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
    let outcome = upload(service, caller, id, parts, query, body).await;
    let result = outcome
        .as_ref()
        .map_or_else(result_of, |_| UploadResult::Ok);
    service.metrics.http.uploads_total.of(result).inc();
    outcome
}

async fn upload(
    service: &Service,
    caller: Caller,
    id: &str,
    parts: &Parts,
    query: Query<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
    caller.needs_catalogue()?;
    let id = checked_id(id)?;
    let wanted = precondition(&parts.headers)?;
    let tags = Tags::of(query.values("tag"))
        .map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
    if service.memory.state() == State::Critical {
        return Err(Kind::MemoryCritical.into());
    }
    let limits = BodyLimits {
        bytes_max: service.config.body_bytes_max,
        time_max: service.config.body_timeout,
        reserve_wait: service.config.reserve_wait,
        purpose: Purpose::Upload,
        parsed_bytes_max: 0,
    };
    let look = |head: &[u8]| {
        let looked = service.flyweights.peek(head);
        looked.map_err(codec_problem)
    };
    let received = body::read_looking(body, limits, &service.intake, &look).await?;
    if received.bytes.is_empty() {
        return Err(Problem::new(
            Kind::UnsupportedMedia,
            "the body is empty: send a JPEG, PNG or WebP",
        ));
    }
    // The charge lives as long as the bytes, also when this caller goes away and the upload ends without it.
    let image = respond::charged(received.bytes, received.charge);
    let begin = async {
        let begun = service.flyweights.begin_upload(id, image, tags, wanted);
        let keeping = begun
            .await
            .map_err(|error| upload_problem(service, error))?;
        Ok(async move {
            keeping
                .await
                .map_err(|error| upload_problem(service, error))
        })
    };
    let registered = service.change_in_time(begin).await?;
    let identity = service
        .flyweights
        .identity(registered.index)
        .map_err(|_| Problem::from(Kind::Gone))?;
    let status = if registered.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    metadata_answer(service, status, &identity)
}

fn find(service: &Service, id: &str) -> Result<Arc<Identity>, Problem> {
    let index = service
        .flyweights
        .resolve(id)
        .ok_or_else(|| Problem::from(Kind::BackgroundNotFound))?;
    service
        .flyweights
        .identity(index)
        .map_err(|_| Kind::BackgroundNotFound.into())
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"))
}

/// `GET` and `HEAD /v1/backgrounds/{background}`: the source bytes, or what is known of them.
///
/// # Errors
/// As the table of problems says.
pub async fn read(service: &Service, id: &str, parts: &Parts) -> Result<Answer, Problem> {
    let identity = find(service, checked_id(id)?)?;
    if wants_json(&parts.headers) {
        return metadata_answer(service, StatusCode::OK, &identity);
    }
    let tag = etag(identity.stored.version)?;
    if parts.headers.get(IF_NONE_MATCH) == Some(&tag) {
        let mut answer = respond::empty(StatusCode::NOT_MODIFIED);
        answer.headers_mut().insert(ETAG, tag);
        return Ok(answer);
    }
    let head = parts.method == Method::HEAD;
    let (identity, mut answer) = if head {
        (identity, respond::empty(StatusCode::OK))
    } else {
        source(service, id, &identity).await?
    };
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(identity.stored.format.content_type()),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(identity.stored.bytes));
    headers.insert(ETAG, etag(identity.stored.version)?);
    Ok(answer)
}

async fn source(
    service: &Service,
    id: &str,
    known: &Identity,
) -> Result<(Arc<Identity>, Answer), Problem> {
    let reserved = service
        .budget
        .reserve(
            Purpose::Body,
            known.stored.bytes,
            service.config.reserve_wait,
        )
        .await;
    let mut charge = reserved.map_err(|error| refused(&error))?;
    let (identity, bytes) =
        service
            .flyweights
            .read_source(id)
            .await
            .map_err(|error| match error {
                RemoveError::Store(error) => store_problem(error),
                _ => Kind::BackgroundNotFound.into(),
            })?;
    // Replaced in between by one of another size.
    charge
        .resize(bytes.len() as u64)
        .map_err(|error| refused(&error))?;
    let body = respond::charged(bytes, Some(charge));
    Ok((
        identity,
        respond::full(StatusCode::OK, respond::OCTETS, body),
    ))
}

/// `DELETE /v1/backgrounds/{background}`.
///
/// # Errors
/// As the table of problems says; nothing is removed then, but for [`Kind::OutcomeUnknown`], after which it may be.
pub async fn delete(
    service: &Service,
    caller: Caller,
    id: &str,
    headers: &HeaderMap,
) -> Result<Answer, Problem> {
    caller.needs_catalogue()?;
    let wanted = precondition(headers)?;
    let id = checked_id(id)?;
    let begin = async {
        let removing = service.flyweights.begin_delete(id, wanted).await;
        Ok(async move { removing.await.map_err(remove_problem) })
    };
    service.change_in_time(begin).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `GET /v1/backgrounds`.
///
/// # Errors
/// [`Kind::BadRequest`] for a bad limit or id, 503 where there is no memory for the page.
pub async fn list(service: &Service, parts: &Parts, query: Query<'_>) -> Result<Answer, Problem> {
    let limit = query.number("limit")?.unwrap_or(LIST_LIMIT);
    if !(1..=LIST_LIMIT_MAX).contains(&limit) {
        return Err(Problem::new(
            Kind::BadRequest,
            format!("limit must lie between 1 and {LIST_LIMIT_MAX}"),
        ));
    }
    let after = query.value("after")?.map(checked_id).transpose()?;
    let entries = limit.min(service.flyweights.live());
    let bytes_max = LIST_BYTES + entries * LIST_ENTRY_BYTES;
    let reserved = reserve_answer(
        &service.budget,
        bytes_max as u64,
        parts.version,
        service.config.reserve_wait,
    )
    .await;
    let mut charge = reserved.map_err(|error| refused(&error))?;
    // One more than asked for tells whether there is a next page.
    let mut identities = service.flyweights.list(after, limit + 1);
    let more = identities.len() > limit;
    identities.truncate(limit);
    let page = Page {
        epoch: service.flyweights.epoch().to_string(),
        backgrounds: identities
            .iter()
            .map(|identity| Metadata::of(identity, None))
            .collect(),
        next: identities
            .last()
            .filter(|_| more)
            .map(|identity| &*identity.stored.id),
    };
    // A background may have come since the count: the buffer grows then, by less than what the values leave free.
    let tags = identities.iter().map(|identity| &identity.stored.tags);
    let tag_bytes: usize = tags.map(Tags::json_bytes).sum();
    let mut json = Vec::with_capacity(LIST_BYTES + entries * LIST_ENTRY_JSON_BYTES + tag_bytes);
    write_json(&mut json, &page)?;
    if let Some(charge) = &mut charge {
        let kept = charge.bytes().min(json.capacity() as u64);
        charge.resize(kept).map_err(|error| refused(&error))?;
    }
    Ok(respond::json(respond::charged(json, charge)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{TAG_BYTES_MAX, TAGS_MAX};

    #[test]
    fn the_longest_entry_of_a_list_takes_no_more_than_is_reserved() {
        let id = "x".repeat(64);
        let tags: Vec<String> = (0..TAGS_MAX)
            .map(|number| format!("{number}{}", "x".repeat(TAG_BYTES_MAX - 1)))
            .collect();
        let most = Tags::of(tags.iter().map(String::as_str)).expect("well formed");
        let longest = Metadata {
            id: &id,
            flyweight: u32::MAX,
            version: u32::MAX,
            width: u32::MAX,
            height: u32::MAX,
            format: "webp",
            bytes: u64::MAX,
            checksum: checksum_text(u64::MAX),
            tags: most.sorted(),
            epoch: None,
        };
        let json = to_json(&longest).expect("json").len();
        assert!(json <= LIST_ENTRY_JSON_BYTES + most.json_bytes(), "{json}");
        let made_from = size_of::<Metadata<'_>>()
            + longest.checksum.len()
            + longest.tags.capacity() * size_of::<&str>()
            + size_of::<Arc<()>>();
        assert!(json + made_from <= LIST_ENTRY_BYTES, "{made_from}");
        let page = Page {
            epoch: u64::MAX.to_string(),
            backgrounds: Vec::new(),
            next: Some(&id),
        };
        assert!(to_json(&page).expect("json").len() <= LIST_BYTES);
    }

    fn of(name: hyper::header::HeaderName, value: &'static str) -> Result<Precondition, Kind> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        precondition(&headers).map_err(|problem| problem.kind())
    }

    #[test]
    fn conditions_read_as_the_answers_state_them() {
        assert_eq!(of(IF_MATCH, "\"v12\""), Ok(Precondition::Version(12)));
        assert_eq!(of(IF_MATCH, "*"), Ok(Precondition::Exists));
        assert_eq!(of(IF_NONE_MATCH, "*"), Ok(Precondition::Absent));
        assert_eq!(
            precondition(&HeaderMap::new()).ok(),
            Some(Precondition::None)
        );
        for bad in ["v12", "\"12\"", "\"v\"", "\"v99999999999\""] {
            assert_eq!(of(IF_MATCH, bad), Err(Kind::PreconditionFailed), "{bad}");
        }
    }
}
