"""A Django project under mod_python.wsgi: its admin, used with a real browser; files, streams, uploads.

The project is below /site; httpd serves its static files. The database is SQLite, in a directory
that httpd's children can write.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.cookiejar
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python.httpd.users import find_user
from mod_python.testing import Server
from tests import chromium, needs
from tests.servers import running

pytestmark = pytest.mark.heavy

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "only for this test"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "project.urls"
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": BASE_DIR / "db" / "db.sqlite3",
    "OPTIONS": {"timeout": 30},
}}
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # in a test, speed is all
"""

URLS = """
import hashlib
from pathlib import Path

from django.contrib import admin
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt

def index(request):
    return HttpResponse(f"{reverse('index')} {request.get_full_path()} {request.scheme}")

def file(request):
    return FileResponse(open(Path(__file__).parent / "data.bin", "rb"), as_attachment=True)

def stream(request):
    return StreamingHttpResponse((f"{number}\\n" for number in range(5)), content_type="text/plain")

@csrf_exempt
def upload(request):
    found = request.FILES["file"]
    return JsonResponse({
        "name": found.name, "size": found.size, "where": type(found).__name__,
        "sha256": hashlib.sha256(b"".join(found.chunks())).hexdigest(), "word": request.POST["word"],
    })

urlpatterns = [
    path("", index, name="index"),
    path("file", file),
    path("stream", stream),
    path("upload", upload),
    path("admin/", admin.site.urls),
]
"""

WSGI = """
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
application = get_wsgi_application()
"""

SETUP = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_superuser("ada", "ada@example.com", "analytical")
"""

DATA = bytes(range(256)) * 2000

CONFIG = """
PythonPath "sys.path+['{project}']"
<Location "/site">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application project.wsgi
</Location>
Alias "/static" "{static}"
<Directory "{static}">
    Require all granted
</Directory>
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """The project's directory, with its database."""
    needs.package("django")
    path = Path(tempfile.mkdtemp(prefix="mod_python-django-")).resolve()
    try:
        path.chmod(0o755)
        for name in ("project", "db"):
            (path / name).mkdir()
        files = {"__init__": "", "settings": SETTINGS, "urls": URLS, "wsgi": WSGI}
        for name, text in files.items():
            (path / "project" / f"{name}.py").write_text(text)
        (path / "project" / "data.bin").write_bytes(DATA)
        subprocess.run([sys.executable, "-c", SETUP], cwd=path, check=True, timeout=120)
        user = find_user()
        if user is not None:
            for file in (path / "db", *(path / "db").iterdir()):
                os.chown(file, user.uid, user.gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    django = needs.package("django")
    assert django.__file__
    static = Path(django.__file__).parent / "contrib" / "admin" / "static"
    with running(CONFIG.format(project=project, static=static)) as server:
        yield server


def test_urls(server: Server) -> None:
    assert server.get("/site/?a=b").text == "/site/ /site/?a=b http"
    response = server.get("/site/admin")
    assert (response.status, response.headers["Location"]) == (301, "/site/admin/")
    assert server.get("/site/nothing").status == 404
    assert server.get("/site/", {"Host": "evil.example"}).status == 400


def test_file_and_stream(server: Server) -> None:
    response = server.get("/site/file")
    assert response.body == DATA
    assert response.headers["Content-Length"] == str(len(DATA))
    assert response.headers["Content-Disposition"] == 'attachment; filename="data.bin"'
    assert server.get("/site/stream").text == "0\n1\n2\n3\n4\n"
    head = server.request("HEAD", "/site/file")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(DATA)))


@pytest.mark.parametrize(("size", "where"), [(1000, "InMemoryUploadedFile"), (4_000_000, "TemporaryUploadedFile")])
def test_upload(server: Server, size: int, where: str) -> None:
    data = os.urandom(size)
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="word"\r\n\r\ncaf\xc3\xa9\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="x.bin"\r\n\r\n' + data + b"\r\n--edge--\r\n"
    )
    response = server.request("POST", "/site/upload", body, {"Content-Type": "multipart/form-data; boundary=edge"})
    assert json.loads(response.text) == {
        "name": "x.bin",
        "size": size,
        "where": where,
        "sha256": hashlib.sha256(data).hexdigest(),
        "word": "caf\u00e9",
    }


def test_log_in_without_a_browser(server: Server) -> None:
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))

    def ask(path: str, fields: dict[str, str] | None = None) -> str:
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        with opener.open(server.url + path, data, timeout=30) as response:
            return response.read().decode()  # type: ignore[no-any-return]

    page = ask("/site/admin/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    fields = {"csrfmiddlewaretoken": token[1], "username": "ada", "password": "wrong", "next": "/site/admin/"}
    assert "Please enter the correct username and password" in ask("/site/admin/login/", fields)
    page = ask("/site/admin/login/", {**fields, "password": "analytical"})
    assert "Site administration" in page
    assert {cookie.name for cookie in jar} == {"csrftoken", "sessionid"}
    response = server.request("POST", "/site/admin/login/", b"username=ada&password=analytical")
    assert response.status == 403  # no token


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    program, driver_program = chromium.program(), needs.program("chromedriver")
    needs.package("selenium")
    from selenium import webdriver

    profile = tempfile.mkdtemp(prefix="mod_python-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1200,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    # With the driver's path given, selenium looks for none, and downloads none.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver_program))
    try:
        driver.set_page_load_timeout(60)
        yield driver
    finally:
        with contextlib.suppress(Exception):
            driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def test_admin_in_a_browser(server: Server, browser: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def wait_for(css: str, text: str) -> Any:
        def look(driver: Any) -> Any:
            found = driver.find_elements(By.CSS_SELECTOR, css)
            return found[0] if found and text in found[0].text else False

        return WebDriverWait(browser, 60, ignored_exceptions=_gone()).until(look, f"{text!r} in {css}")

    def fill(**fields: str) -> None:
        for name, text in fields.items():
            browser.find_element(By.NAME, name).send_keys(text)

    # Logging in, first with a wrong password.
    browser.get(f"{server.url}/site/admin/")
    assert browser.current_url == f"{server.url}/site/admin/login/?next=/site/admin/"
    fill(username="ada", password="wrong")
    browser.find_element(By.CSS_SELECTOR, "input[type=submit]").click()
    wait_for(".errornote", "Please enter the correct username and password")
    browser.find_element(By.NAME, "username").clear()
    fill(username="ada", password="analytical")
    browser.find_element(By.CSS_SELECTOR, "input[type=submit]").click()
    wait_for("#content h1", "Site administration")
    assert browser.current_url == f"{server.url}/site/admin/"
    assert "ADA" in browser.find_element(By.ID, "user-tools").text
    # httpd has served the style sheets.
    colour = browser.find_element(By.ID, "header").value_of_css_property("background-color")
    assert colour not in ("rgba(0, 0, 0, 0)", "rgb(255, 255, 255)")

    # Adding a group, with a name beyond ASCII.
    browser.find_element(By.CSS_SELECTOR, 'a[href="/site/admin/auth/group/add/"]').click()
    wait_for("#content h1", "Add group")
    fill(name="R\u00e9dacteurs \u2603")
    browser.find_element(By.NAME, "_save").click()
    wait_for(".messagelist .success", "R\u00e9dacteurs \u2603")
    assert browser.current_url == f"{server.url}/site/admin/auth/group/"
    wait_for("#result_list", "R\u00e9dacteurs \u2603")

    # Logging out: the page of the groups is not shown any more.
    browser.find_element(By.CSS_SELECTOR, "#logout-form button").click()
    wait_for("#content h1", "Logged out")
    browser.get(f"{server.url}/site/admin/auth/group/")
    assert "/site/admin/login/" in browser.current_url
    assert browser.find_elements(By.ID, "result_list") == []


def _gone() -> tuple[type[Exception], ...]:
    """Elements of the page before may go while they are looked at."""
    from selenium.common.exceptions import StaleElementReferenceException

    return (StaleElementReferenceException,)
