"""The error classes of the whole system. Every error says whether the operation certainly did not happen.

    LabError
    +- WrongInput            the caller's input is out of bounds              HTTP 400, exit 64
    |  +- TooLarge           a body, page or upload above its limit           HTTP 413
    |  +- InvalidParameter   a query parameter that the route does not have   HTTP 400
    +- Unauthorized          no token, or an invalid one                      HTTP 401
    +- Forbidden             a valid token that does not permit this          HTTP 403
    +- NotFound              no such object, or not visible to the caller     HTTP 404
    +- Conflict              a name in use; 422: an idempotency key reused    HTTP 409 / 422
    |                        with another body
    +- TooManyRequests       a rate limit is exceeded                         HTTP 429
    +- Unavailable           a dependency or the service itself cannot answer HTTP 503
    |  +- StoreUnavailable   a store did not respond, or refused
    |  +- Overloaded         refused before any work was done (load shedding)
    |  +- DeadlineExceeded   the request's time ran out                       HTTP 504
    +- CouldNotRun           the lab itself cannot start or continue          exit 3

`definite` is True if the operation certainly did not happen. If it is False the outcome is unknown: the
history of a run records the operation as `info` (as Jepsen does), and no checker counts it as lost or as
done.
"""

from __future__ import annotations


class LabError(Exception):
    """Base of every error of the project. `str(error)` names the value, the bound and the fix."""

    title = "Lab Error"
    status = 500
    exit_code = 1
    definite = False

    def __init__(self, detail: str, *, definite: bool | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        if definite is not None:
            self.definite = definite

    def body(self) -> dict[str, object]:
        """Return the error in the format of Twitter's API v2."""
        return {"title": self.title, "detail": self.detail, "type": "about:blank", "status": self.status}


class WrongInput(LabError):
    """The caller's input is out of bounds."""

    title = "Invalid Request"
    status = 400
    exit_code = 64
    definite = True


class TooLarge(WrongInput):
    """A body, a page or an upload is larger than its limit."""

    title = "Payload Too Large"
    status = 413


class InvalidParameter(WrongInput):
    """The route does not have this query parameter, or got it twice."""

    def __init__(self, name: str, value: str, detail: str) -> None:
        super().__init__(detail)
        self.name, self.value = name, value

    def body(self) -> dict[str, object]:
        """Return the error as Twitter's API v2 reports an invalid parameter."""
        errors = [{"parameters": {self.name: [self.value]}, "message": self.detail}]
        return {"errors": errors, **super().body(), "type": "https://api.twitter.com/2/problems/invalid-request"}


class Unauthorized(LabError):
    """The request has no token, or an invalid one."""

    title = "Unauthorized"
    status = 401
    definite = True


class Forbidden(LabError):
    """The token is valid but does not permit this operation."""

    title = "Forbidden"
    status = 403
    definite = True


class NotFound(LabError):
    """The object does not exist, or the caller may not see it."""

    title = "Not Found Error"
    status = 404
    definite = True


class TooManyRequests(LabError):
    """A caller exceeded a rate limit; `x-rate-limit-reset` says when requests are admitted again."""

    title = "Too Many Requests"
    status = 429
    definite = True


class Conflict(LabError):
    """The request conflicts with existing state: a name in use, or an idempotency key with another body."""

    title = "Conflict"
    status = 409
    definite = True


class Unavailable(LabError):
    """A dependency, or the service itself, cannot answer now."""

    title = "Service Unavailable"
    status = 503


class StoreUnavailable(Unavailable):
    """A store did not respond (`definite=False`), or refused before it did anything (`definite=True`)."""


class Overloaded(Unavailable):
    """Refused before any work was done: too many requests are in flight."""

    definite = True


class DeadlineExceeded(Unavailable):
    """The request's deadline passed. What was already sent to a store may still take effect."""

    title = "Gateway Timeout"
    status = 504


class CouldNotRun(LabError):
    """The lab itself cannot start or continue: a program is missing, a port is in use, a server exits."""

    title = "Could Not Run"
    exit_code = 3
    definite = True
