//! A store that speaks the protocol of S3.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
    RetryConfig,
};
use thiserror::Error;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// Where the store is, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Settings {
    /// `https://minio.example.org`; `None` is Amazon's own.
    pub endpoint: Option<String>,
    /// `us-east-1` where it means nothing.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// The bucket is part of the path, not of the host's name.
    pub is_path_style: bool,
    /// How long one request may take; up to 8 MiB go with it.
    pub timeout: Duration,
    /// How long to wait after the first failure of a whole upload; each wait is twice the one before.
    pub pause: Duration,
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl S3Settings {
    /// With times that fit a slow line, and the bucket in the path.
    pub fn new(bucket: String, access_key_id: String, secret_access_key: String) -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            bucket,
            prefix: String::new(),
            access_key_id,
            secret_access_key,
            is_path_style: true,
            timeout: Duration::from_secs(120),
            pause: Duration::from_secs(5),
        }
    }
}

/// Where finished recordings go.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    pause: Duration,
}

/// Why the store does not do what it should.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It refuses, or cannot be reached.
    #[error("the store refuses")]
    Refused(#[from] object_store::Error),
    /// The file to upload cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

impl Store {
    /// A bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// The settings make no sense.
    pub fn s3(settings: &S3Settings) -> Result<Self, StoreError> {
        let client = ClientOptions::new()
            .with_timeout(settings.timeout)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(true);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: settings.pause / 10,
                max_backoff: settings.pause.max(Duration::from_secs(1)),
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout: settings.timeout * 3,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(&settings.secret_access_key)
            .with_virtual_hosted_style_request(!settings.is_path_style)
            // Not every store of this protocol deletes many at once.
            .with_disable_bulk_delete(true)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        Ok(Self {
            objects: Arc::new(builder.build()?),
            prefix: settings.prefix.trim_matches('/').to_owned(),
            pause: settings.pause,
        })
    }

    /// How long to wait after the first failure.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Uploads a file, in several parts if it is large.
    pub(super) async fn put(&self, key: &str, path: &Path) -> Result<(), StoreError> {
        let key = self.key(key);
        let mut file = File::open(path).await?;
        let first = read_part(&mut file).await?;
        if first.len() < PART_BYTES {
            self.objects.put(&key, first.into()).await?;
            return Ok(());
        }
        let mut upload = self.objects.put_multipart(&key).await?;
        let put = put_parts(upload.as_mut(), first, &mut file).await;
        if put.is_err() {
            // Else its parts would be paid for and never seen.
            let _ = upload.abort().await;
        }
        put
    }

    /// Reads a part of an object.
    pub(super) async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        Ok(self.objects.get_range(&self.key(key), range).await?)
    }

    /// Deletes an object, which need not be there.
    pub(super) async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.key(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The keys of all objects under a prefix, without the store's own.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn list(&self, under: &str) -> Result<Vec<String>, StoreError> {
        let prefix = self.key(under);
        let found = self.objects.list(Some(&prefix)).try_collect::<Vec<_>>();
        let own = self.key("");
        let keys = found.await?.into_iter().map(|object| {
            let parts = object.location.prefix_match(&own);
            let parts = parts.map(|parts| parts.map(|part| part.as_ref().to_owned()));
            parts.map_or_else(String::new, |parts| parts.collect::<Vec<_>>().join("/"))
        });
        Ok(keys.collect())
    }

    fn key(&self, key: &str) -> Key {
        Key::from(format!("{}/{key}", self.prefix))
    }
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    first: Bytes,
    file: &mut File,
) -> Result<(), StoreError> {
    let mut part = first;
    while !part.is_empty() {
        upload.put_part(PutPayload::from_bytes(part)).await?;
        part = read_part(file).await?;
    }
    upload.complete().await?;
    Ok(())
}

async fn read_part(file: &mut File) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(PART_BYTES);
    let room = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
    let mut rest = file.take(room);
    while rest.read_buf(&mut bytes).await? > 0 {}
    Ok(bytes.freeze())
}

/// At least 5 MiB, by the protocol; one is held in memory.
const PART_BYTES: usize = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 3;
