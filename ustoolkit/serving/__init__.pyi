from .server import serve as serve
from .settings import ServerSettings as ServerSettings
