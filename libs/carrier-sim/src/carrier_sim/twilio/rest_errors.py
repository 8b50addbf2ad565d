"""Errors as Twilio's REST API answers them. https://www.twilio.com/docs/api/errors"""

from aiohttp import web

# The code that goes with a status when a test asks only for the status.
_CODES = {
    400: (20001, "Invalid parameter"),
    401: (20003, "Authenticate"),
    403: (20006, "Access denied"),
    404: (20404, "The requested resource was not found"),
    405: (20004, "Method not allowed"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
    503: (20503, "Service unavailable"),
}


class RestError(Exception):
    """An error as Twilio answers it."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def response(self) -> web.Response:
        headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if self.status == 401 else None
        return web.json_response(
            {
                "code": self.code,
                "message": self.message,
                "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
                "status": self.status,
            },
            status=self.status,
            headers=headers,
        )


def not_found(request: web.Request) -> RestError:
    return RestError(20404, f"The requested resource {request.path} was not found", 404)


def of_status(status: int, path: str, code: int | str | None = None) -> web.Response:
    """The error Twilio answers with `status`, with another `code` if one is given."""
    known, message = _CODES.get(status, (20000 + status % 1000, "Error"))
    if status == 404:
        message = f"The requested resource {path} was not found"
    number = int(code) if code is not None and str(code).isdigit() else known
    return RestError(number, message, status).response()
