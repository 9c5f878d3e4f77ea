"""nginx as tests and benchmarks run it: one process, in the foreground, with all its files in one directory."""
from pathlib import Path

CONFIG = """
user root;
daemon off;
master_process off;
pid {dir}/{name}.pid;
error_log {dir}/{name}.log;
{main}
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {dir}/t1;
    proxy_temp_path {dir}/t2;
    fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4;
    scgi_temp_path {dir}/t5;
    {http}
    server {{ listen {listen}; root {root}; {server} }}
}}
"""


def nginx_argv(where, listen, root=None, http="", server="", main="", connections=1024, name="nginx"):
    """Writes the configuration into `where`, and gives the command that runs it. `root`: else the directory www there."""
    config = Path(where) / (name + ".conf")
    config.write_text(CONFIG.format(dir=where, listen=listen, root=root or Path(where) / "www", http=http, server=server, main=main,
                                    connections=connections, name=name))
    return ["nginx", "-p", where, "-e", "stderr", "-c", config]
