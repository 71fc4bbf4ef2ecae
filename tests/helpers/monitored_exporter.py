"""The exporter of a lab without stores: it reports the expected nodes.

`python -m tests.helpers.monitored_exporter`.
"""

from system.kernel import settings
from system.kernel.http import serving
from system.kernel.http.asgi import App
from system.observe.exporter import Exporter

if __name__ == "__main__":
    config = settings.from_env()
    exporter = Exporter(config, asked=[])
    serving.serve(App("exporter", (), config.instance, exporter.open, exporter.close), config.listen_host, config.listen_port)
