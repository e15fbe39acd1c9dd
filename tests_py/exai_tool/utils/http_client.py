import json
import uuid
from pathlib import Path
from urllib.request import Request, urlopen


class HttpClient:
    """Enough of an HTTP client, and of an OpenAI client: `client.files.create(file=path, purpose=...)`."""

    def __init__(self, base_url, api_key):
        self.base_url, self.api_key, self.files = base_url.rstrip("/"), api_key, self

    def create(self, *, file, purpose):
        return self.post_multipart("/files", {"file": Path(file)}, {"purpose": purpose}, timeout=30)

    def post_multipart(self, path, files, data, timeout):
        boundary = uuid.uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in data.items()]
        body = "".join(parts).encode()
        for name, file in files.items():
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file.name}"\r\n\r\n'
            body += head.encode() + file.read_bytes() + b"\r\n"
        headers = {"Authorization": f"Bearer {self.api_key}"}
        headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
        request = Request(self.base_url + path, body + f"--{boundary}--\r\n".encode(), headers)
        with urlopen(request, timeout=timeout) as response:
            return json.loads(response.read())
