"""Users that are cut off together with their region.

`region_client.py BASE_URL SECONDS`, with requests as JSON on stdin.

A request is [name, method, path, body, token, pause in seconds]; it is sent repeatedly, with `{n}` in its
body replaced by the number of the turn. Each response is one line of JSON: name, n, status (0: none), times
of send and end (monotonic), the text. Needs only the standard library.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request

TIMEOUT_S = 8.0


def ask(base, method, path, body, token):
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(base + path, body.encode() if body else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as problem:
        return problem.code, problem.read().decode(errors="replace")
    except OSError as problem:
        return 0, repr(problem)


def send_repeatedly(base, ends_s, request):
    name, method, path, body, token, pause_s = request
    n = 0
    while time.monotonic() < ends_s:
        sent_s = time.monotonic()
        status, text = ask(base, method, path, body.replace("{n}", str(n)), token)
        row = {"name": name, "n": n, "status": status, "sent_s": sent_s, "done_s": time.monotonic(), "text": text[:4000]}
        print(json.dumps(row), flush=True)
        n += 1
        time.sleep(pause_s)


def main():
    base, seconds = sys.argv[1], float(sys.argv[2])
    ends_s = time.monotonic() + seconds
    threads = [threading.Thread(target=send_repeatedly, args=(base, ends_s, request)) for request in json.load(sys.stdin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
