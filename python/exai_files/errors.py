"""Every exception this package raises, named for what to do about it.

```
Error                                 every exception exai_files raises
├── ConfigError (ValueError)          a setting is missing or wrong
├── InvalidRequestError (ValueError)  the call itself is wrong
│   ├── SourceNotFoundError (FileNotFoundError)  there is no such local file
│   └── SourceChangedError            the local file changed while it was sent, twice
├── FileTooLargeError                 .limit .size (bytes)
├── UnsupportedError                  the platform has no such verb, or takes no such format
├── InvalidTokenError                 a user has shown no token, or none that is good
├── NotFoundError (LookupError)       no such file in the registry or on the platform
├── ConflictError                     several files fit, or another process won
├── IntegrityError                    bytes are not what the record says
├── SafetyLimitError                  more would be taken away than is allowed at once; nothing was done
├── RegistryError                     our own store failed
├── CancelledError                    the client was closed meanwhile
├── PartialUploadError                .record .failures: some platforms took it, some did not
└── PlatformError                     a platform refused or failed
    ├── AuthenticationError           the platform does not know this key
    │   └── ReauthRequiredError       a login cannot be used any more: log in anew
    ├── PermissionDeniedError         the key may not do this
    ├── ContentRejectedError          filtered, or nothing could be parsed
    ├── QuotaExceededError            storage or a usage window is full; waiting a moment will not help
    ├── BillingError                  balance used up, or plan expired
    ├── RateLimitError                .retry_after (seconds or None)
    ├── PlatformUnavailableError      down, overloaded or unreachable
    │   └── CircuitOpenError          .retry_after: it has been lately, and is left in peace
    ├── PlatformTimeoutError (TimeoutError)
    ├── OutcomeUnknownError           it may or may not have been stored; upload again looks first
    └── ContractDriftError            the platform answered what its documentation does not allow
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exai_files.records import FileRecord

__all__ = [
    "AuthenticationError",
    "BillingError",
    "CancelledError",
    "CircuitOpenError",
    "ConfigError",
    "ConflictError",
    "ContentRejectedError",
    "ContractDriftError",
    "Error",
    "FileTooLargeError",
    "IntegrityError",
    "InvalidRequestError",
    "InvalidTokenError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PartialUploadError",
    "PermissionDeniedError",
    "PlatformError",
    "PlatformTimeoutError",
    "PlatformUnavailableError",
    "QuotaExceededError",
    "RateLimitError",
    "ReauthRequiredError",
    "RegistryError",
    "SafetyLimitError",
    "SourceChangedError",
    "SourceNotFoundError",
    "UnsupportedError",
]


class Error(Exception):
    """Base of every exception this package raises.

    Attributes:
        message: What went wrong, which thing, how. One sentence, without secrets.
        hint: What to do about it, or None.
        platform: The platform concerned, or None.
        account: Our name for the account, or None.
        operation: "upload", "list", "get", "content" or "delete", or None.
        status: HTTP status, where an answer arrived.
        code: The platform's own code or type, as text.
        request_id: The platform's id for the request, for its support.
        retry_after: Seconds the platform asked to wait, or None.
        attempts: One line per attempt made, oldest first.
    """

    message: str
    hint: str | None = None
    platform: str | None = None
    account: str | None = None
    operation: str | None = None
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    attempts: tuple[str, ...] = ()

    def __init__(self, message: str, **attributes: Any) -> None:  # noqa: ANN401  (each class names its own)
        super().__init__(message)
        self.message = message
        for name, value in attributes.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, dict(self.__dict__))


class ConfigError(Error, ValueError):
    """A setting is missing or wrong."""


class InvalidRequestError(Error, ValueError):
    """The call itself is wrong."""


class SourceNotFoundError(InvalidRequestError, FileNotFoundError):
    """There is no such local file."""


class SourceChangedError(InvalidRequestError):
    """The local file changed while it was being sent, twice."""


class FileTooLargeError(Error):
    """The file is larger than the platform takes.

    Attributes:
        size: Bytes of the file, or None where only the platform knows.
        limit: Bytes the platform takes, or None.
    """

    size: int | None = None
    limit: int | None = None


class UnsupportedError(Error):
    """The platform has no such verb, or takes no such format or purpose."""


class InvalidTokenError(Error):
    """Who calls has shown no token of theirs, or none that is good: they sign in again."""


class NotFoundError(Error, LookupError):
    """No such file in the registry or on the platform."""


class ConflictError(Error):
    """Several files fit, or another process has what this call wants."""


class IntegrityError(Error):
    """Bytes are not what the record says."""


class SafetyLimitError(Error):
    """More would be deleted or given up than is allowed at once. Nothing was done."""


class RegistryError(Error):
    """Our own store failed."""


class CancelledError(Error):
    """The client was closed while the call ran."""


class PartialUploadError(Error):
    """Some platforms took the file and some did not.

    Attributes:
        record: The file with the replicas that exist.
        failures: The error of each platform that failed.
    """

    record: FileRecord
    failures: dict[str, Error]


class PlatformError(Error):
    """A platform refused or failed."""


class AuthenticationError(PlatformError):
    """The platform does not know this key."""


class ReauthRequiredError(AuthenticationError):
    """A login cannot be used any more: log in anew, with `exai-files auth login` or `Auth.login`."""


class PermissionDeniedError(PlatformError):
    """The key is known but may not do this."""


class ContentRejectedError(PlatformError):
    """The platform looked at the content and would not have it."""


class QuotaExceededError(PlatformError):
    """Storage, file count or a usage window is full: waiting a moment will not help."""


class BillingError(PlatformError):
    """Balance used up, or plan expired."""


class RateLimitError(PlatformError):
    """Too fast: try again after `retry_after` seconds."""


class PlatformUnavailableError(PlatformError):
    """The platform is down, overloaded or unreachable."""


class CircuitOpenError(PlatformUnavailableError):
    """The platform has failed too often lately, and is not asked for a while. Nothing was sent.

    Try again after `retry_after` seconds, or use another platform.
    """


class PlatformTimeoutError(PlatformError, TimeoutError):
    """The deadline of the call, or one of its phases, ran out."""


class OutcomeUnknownError(PlatformError):
    """The upload may or may not have been stored; the same call again looks for it first."""


class ContractDriftError(PlatformError):
    """The platform answered something its documentation does not allow."""


_CLASSES: dict[str, type[Error]] = {
    "Config": ConfigError,
    "InvalidRequest": InvalidRequestError,
    "SourceNotFound": SourceNotFoundError,
    "SourceChanged": SourceChangedError,
    "TooLarge": FileTooLargeError,
    "Unsupported": UnsupportedError,
    "Unauthenticated": AuthenticationError,
    "InvalidToken": InvalidTokenError,
    "ReauthRequired": ReauthRequiredError,
    "PermissionDenied": PermissionDeniedError,
    "NotFound": NotFoundError,
    "Conflict": ConflictError,
    "ContentRejected": ContentRejectedError,
    "QuotaExceeded": QuotaExceededError,
    "Billing": BillingError,
    "RateLimited": RateLimitError,
    "Unavailable": PlatformUnavailableError,
    "CircuitOpen": CircuitOpenError,
    "TimedOut": PlatformTimeoutError,
    "OutcomeUnknown": OutcomeUnknownError,
    "ContractDrift": ContractDriftError,
    "Integrity": IntegrityError,
    "Registry": RegistryError,
    "SafetyLimit": SafetyLimitError,
    "PartialUpload": PartialUploadError,
    "Cancelled": CancelledError,
}


def _from_core(details: Mapping[str, Any]) -> Error:
    """Builds the exception for what the Rust core reports; called by it."""
    attributes = {name: value for name, value in details.items() if value is not None}
    cls = _CLASSES[attributes.pop("kind")]
    attributes["attempts"] = tuple(attributes.get("attempts", ()))
    partial = attributes.pop("partial", None)
    if partial is not None:
        from exai_files.records import FileRecord

        attributes["record"] = FileRecord._from_core(partial["record"])
        attributes["failures"] = {name: _from_core(failure) for name, failure in partial["failures"].items()}
    return cls(attributes.pop("message"), **attributes)


def _restore(cls: type[Error], message: str, attributes: dict[str, Any]) -> Error:
    error = cls(message)
    error.__dict__.update(attributes)
    return error
