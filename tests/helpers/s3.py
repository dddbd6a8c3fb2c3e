"""An S3 server on this machine: moto's."""

import logging
import os
from contextlib import contextmanager

import s3fs
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server(bucket):
    """A server with a bucket; the environment names it, as it would name any other. Gives the file system."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.mkdir(bucket)
        yield store
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
