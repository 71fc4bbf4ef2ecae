"""Users who are cut off together with their region: `region_client.py BASE_URL SECONDS`, their wishes as JSON on stdin.

A wish is [name, method, path, body, token, pause in seconds], sent over and over, `{n}` in its body the turn. An answer is a line
of JSON: name, n, status (0: none), when it was sent and when it was over (monotonic), the text.
Needs the standard library alone.
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


def walk(base, ends_s, wish):
    name, method, path, body, token, pause_s = wish
    n = 0
    while time.monotonic() < ends_s:
        sent_s = time.monotonic()
        status, text = ask(base, method, path, body.replace("{n}", str(n)), token)
        told = {"name": name, "n": n, "status": status, "sent_s": sent_s, "done_s": time.monotonic(), "text": text[:4000]}
        print(json.dumps(told), flush=True)
        n += 1
        time.sleep(pause_s)


def main():
    base, seconds = sys.argv[1], float(sys.argv[2])
    ends_s = time.monotonic() + seconds
    threads = [threading.Thread(target=walk, args=(base, ends_s, wish)) for wish in json.load(sys.stdin)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
