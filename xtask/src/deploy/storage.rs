//! The bucket: the programs, what each server is to run, and the token.
//!
//! The token is an object that only the servers' role and those who deploy can read. A parameter of Systems Manager would do
//! as well, but it is one more service with permissions of its own, and the bucket is there anyway. It isn't in the user
//! data, which everybody can read who may describe instances.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{
        BucketLocationConstraint, CreateBucketConfiguration, PublicAccessBlockConfiguration,
        ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
        ServerSideEncryptionRule, Tag, Tagging,
    },
};

use bytes::Bytes;
use crucial_runtime::security::Token;

use super::{
    archive,
    aws::{Aws, Failed, ask, insist, unless},
    names::TAG,
    plan::Bucket,
};
use crate::Error;

const TOKEN: &str = "token";
const BINARIES: &str = "binaries/";
const NODES: &str = "nodes/";
/// What Lambda fetches when it is too large for a request.
pub(super) const CODE: &str = "function.zip";

/// How long a bucket that was made may take to be known everywhere.
const KNOWN: Duration = Duration::from_secs(60);

impl Aws {
    /// The bucket and what is in it, if there is one.
    pub(super) async fn bucket(&self) -> Result<Option<Bucket>, Error> {
        let name = self.names.bucket();
        let subject = || format!("the bucket {name}");
        let tagging =
            ask("s3:GetBucketTagging", subject(), self.s3.get_bucket_tagging().bucket(&name).send()).await;
        let ready = match tagging {
            Ok(tags) => {
                let tag = tags.tag_set().iter().find(|tag| tag.key() == TAG);
                match tag {
                    Some(tag) if tag.value() != self.names.deployment => return Err(self.foreign(&subject())),
                    tag => tag.is_some(),
                }
            }
            Err(failed) if failed.is(&["NoSuchTagSet"]) => false,
            Err(failed) if failed.is(&["NoSuchBucket"]) => return Ok(None),
            Err(failed) => return Err(failed.into()),
        };
        let mut bucket = Bucket { ready, ..Bucket::default() };
        for key in self.keys().await? {
            if let Some(digest) = key.strip_prefix(BINARIES) {
                bucket.binaries.insert(digest.to_owned());
            } else if let Some(Ok(server)) = key.strip_prefix(NODES).map(str::parse) {
                bucket.nodes.extend(self.object(&key).await?.map(|text| (server, text)));
            } else if key == TOKEN {
                bucket.token = self.object(TOKEN).await?.map(|token| archive::hex(token.as_bytes()));
            }
        }
        Ok(Some(bucket))
    }

    async fn keys(&self) -> Result<BTreeSet<String>, Failed> {
        let mut keys = BTreeSet::new();
        let mut next = None;
        loop {
            let list = self.s3.list_objects_v2().bucket(self.names.bucket()).set_continuation_token(next);
            let page =
                ask("s3:ListBucket", format!("the bucket {}", self.names.bucket()), list.send()).await?;
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
            next = page.next_continuation_token;
            if next.is_none() {
                return Ok(keys);
            }
        }
    }

    async fn object(&self, key: &str) -> Result<Option<String>, Error> {
        let get = self.s3.get_object().bucket(self.names.bucket()).key(key).send();
        let Some(found) = unless(&["NoSuchKey", "NoSuchBucket"], ask("s3:GetObject", key, get).await)? else {
            return Ok(None);
        };
        let read =
            |error: &dyn ToString| Error::Message(format!("reading {key} from S3: {}", error.to_string()));
        let bytes = found.body.collect().await.map_err(|error| read(&error))?;
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|error| read(&error))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), Failed> {
        let bytes = Bytes::from(bytes);
        insist(
            KNOWN,
            |failed| failed.is(&["NoSuchBucket"]),
            async || {
                let put = self.s3.put_object().bucket(self.names.bucket()).key(key);
                ask("s3:PutObject", key, put.body(ByteStream::from(bytes.clone())).send()).await
            },
        )
        .await
        .map(drop)
    }

    /// Makes the bucket, private and encrypted. The tag comes last: it says that the rest was done.
    pub(super) async fn create_bucket(&self) -> Result<(), Error> {
        let name = self.names.bucket();
        let subject = || format!("the bucket {name}");
        // The oldest region can't be named.
        let place = (self.names.region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(&*self.names.region))
                .build()
        });
        let create = self.s3.create_bucket().bucket(&name).set_create_bucket_configuration(place);
        unless(&["BucketAlreadyOwnedByYou"], ask("s3:CreateBucket", subject(), create.send()).await)?;
        let unknown = |failed: &Failed| failed.is(&["NoSuchBucket", "OperationAborted"]);

        let all = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let block = self.s3.put_public_access_block().bucket(&name).public_access_block_configuration(all);
        insist(KNOWN, unknown, async || {
            ask("s3:PutBucketPublicAccessBlock", subject(), block.clone().send()).await
        })
        .await?;

        let by = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256).build();
        let by = by.map_err(|error| Error::Message(error.to_string()))?;
        let rule = ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(by).build();
        let rules = ServerSideEncryptionConfiguration::builder().rules(rule).build();
        let rules = rules.map_err(|error| Error::Message(error.to_string()))?;
        let encrypt =
            self.s3.put_bucket_encryption().bucket(&name).server_side_encryption_configuration(rules);
        insist(KNOWN, unknown, async || {
            ask("s3:PutEncryptionConfiguration", subject(), encrypt.clone().send()).await
        })
        .await?;

        let tag = Tag::builder().key(TAG).value(&self.names.deployment).build();
        let tags =
            Tagging::builder().tag_set(tag.map_err(|error| Error::Message(error.to_string()))?).build();
        let tags = tags.map_err(|error| Error::Message(error.to_string()))?;
        let tag = self.s3.put_bucket_tagging().bucket(&name).tagging(tags);
        insist(KNOWN, unknown, async || ask("s3:PutBucketTagging", subject(), tag.clone().send()).await)
            .await?;
        Ok(())
    }

    /// The token, if there is one.
    pub(super) async fn token(&self) -> Result<Option<String>, Error> {
        self.object(TOKEN).await
    }

    /// Makes a token.
    pub(super) async fn create_token(&self) -> Result<(), Error> {
        Ok(self.put(TOKEN, Token::generate().reveal().into_bytes()).await?)
    }

    pub(super) async fn put_binary(&self, digest: &str, program: &[u8]) -> Result<(), Error> {
        Ok(self.put(&format!("{BINARIES}{digest}"), program.to_vec()).await?)
    }

    pub(super) async fn delete_binary(&self, digest: &str) -> Result<(), Error> {
        self.delete_object(&format!("{BINARIES}{digest}")).await
    }

    pub(super) async fn put_node(&self, server: usize, file: &str) -> Result<(), Error> {
        Ok(self.put(&format!("{NODES}{server}"), file.as_bytes().to_vec()).await?)
    }

    pub(super) async fn delete_node(&self, server: usize) -> Result<(), Error> {
        self.delete_object(&format!("{NODES}{server}")).await
    }

    pub(super) async fn put_code(&self, zip: &[u8]) -> Result<(), Error> {
        Ok(self.put(CODE, zip.to_vec()).await?)
    }

    async fn delete_object(&self, key: &str) -> Result<(), Error> {
        let delete = self.s3.delete_object().bucket(self.names.bucket()).key(key).send();
        unless(&["NoSuchBucket"], ask("s3:DeleteObject", key, delete).await)?;
        Ok(())
    }

    /// Removes the bucket with all that is in it.
    pub(super) async fn delete_bucket(&self) -> Result<(), Error> {
        for key in self.keys().await? {
            self.delete_object(&key).await?;
        }
        let name = self.names.bucket();
        let delete = self.s3.delete_bucket().bucket(&name).send();
        unless(&["NoSuchBucket"], ask("s3:DeleteBucket", format!("the bucket {name}"), delete).await)?;
        Ok(())
    }
}
