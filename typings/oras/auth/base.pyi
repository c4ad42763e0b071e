from oras.container import Container

class AuthBackend:
    def load_configs(self, container: Container, configs: list[str] | None = ...) -> None: ...
