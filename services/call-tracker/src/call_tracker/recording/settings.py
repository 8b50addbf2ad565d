"""Where recordings are kept, as call-tracker (which serves them) and the recorder (which writes them) are told."""

import re
from pathlib import Path
from typing import Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from call_tracker.recording.folder import FolderStorage
from call_tracker.recording.storage import Storage
from offhook.settings import ServiceSettings

_PREFIX: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


class StorageSettings(ServiceSettings):
    """A folder, unless a bucket is named."""

    recordings_dir: Path = Field(
        Path("var/recordings"),
        description="the folder of the recordings; call-tracker and the recorder must see the same one",
    )
    recordings_s3_bucket: str | None = Field(
        None,
        max_length=63,
        description="the bucket of the recordings, in S3-compatible storage; not set: the folder",
    )
    recordings_s3_endpoint: str | None = Field(
        None, max_length=2000, description="base URL of the storage, https://…; not set: Amazon S3"
    )
    recordings_s3_region: str = Field("us-east-1", max_length=100, description="the bucket's region")
    recordings_s3_prefix: str = Field(
        "", max_length=100, description="what all keys begin with in the bucket, such as offhook/recordings"
    )
    recordings_s3_access_key_id: SecretStr = Field(SecretStr(""), description="the storage's access key id")
    recordings_s3_secret_access_key: SecretStr = Field(
        SecretStr(""), description="the storage's secret access key"
    )

    @field_validator("recordings_s3_endpoint")
    @classmethod
    def _is_base_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("expected a URL that begins with https:// or http://")
        return value

    @field_validator("recordings_s3_prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        value = value.strip("/")
        if value and _PREFIX.fullmatch(value) is None:
            raise ValueError("expected names of letters, digits, -, _ and . with / between them")
        return value

    @model_validator(mode="after")
    def _bucket_has_keys(self) -> Self:
        keys = (self.recordings_s3_access_key_id, self.recordings_s3_secret_access_key)
        if self.recordings_s3_bucket and not all(key.get_secret_value() for key in keys):
            raise ValueError(
                "OFFHOOK_RECORDINGS_S3_BUCKET is set, but not OFFHOOK_RECORDINGS_S3_ACCESS_KEY_ID and"
                " OFFHOOK_RECORDINGS_S3_SECRET_ACCESS_KEY"
            )
        return self

    def recordings(self) -> Storage:
        """The storage these settings name."""
        if self.recordings_s3_bucket is None:
            return FolderStorage(self.recordings_dir)
        # Where recordings are in a folder its client need not be installed.
        from call_tracker.recording.s3 import S3Storage

        return S3Storage(
            self.recordings_s3_bucket,
            endpoint=self.recordings_s3_endpoint,
            region=self.recordings_s3_region,
            prefix=self.recordings_s3_prefix,
            access_key_id=self.recordings_s3_access_key_id.get_secret_value(),
            secret_access_key=self.recordings_s3_secret_access_key.get_secret_value(),
        )
