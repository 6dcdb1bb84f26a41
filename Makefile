# posagent: `make demo` shows a whole update, `make test` proves it. Everything runs from .venv.
PYTHON ?= python3
BIN := .venv/bin
# Debian packages the tests, the demo and the benchmarks use: real tools, not fakes.
TOOLS := fw_setenv:libubootenv-tool mkfs.ext4:e2fsprogs nginx:nginx-light ssh-keygen:openssh-client \
         systemd-analyze:systemd faketime:faketime openssl:openssl strace:strace \
         grub-editenv:grub-common grub-emu:grub-emu mksquashfs:squashfs-tools mkfs.erofs:erofs-utils \
         rz:lrzsz picocom:picocom tmux:tmux softhsm2-util:softhsm2
BENCH_TOOLS := rauc:rauc dbus-daemon:dbus
# The other methods of bench-payload, and what makes its images.
PEERS := swupdate:swupdate casync:casync zck:zchunk xdelta3:xdelta3 bsdiff:bsdiff zstd:zstd xz:xz-utils cpio:cpio \
         time:time addpart:util-linux mmdebstrap:mmdebstrap rsync:rsync
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help venv deps bench-deps check test test-fleet hil hil-image hil-campaign kills crash crash-full mutants sim-days demo bench bench-payload bench-console bench-money fuzz docs screens format clean

help:
	@echo "make demo   a whole update on a simulated terminal, watched live"
	@echo "make test   all tests"
	@echo "make test-fleet  terminals and the real hawkBit server -> build/fleet.json"
	@echo "make check  format, lint, types, house rules"
	@echo "make bench  memory, start-up, wake-ups, install speed -> build/bench.json"
	@echo "make bench-payload  downloads and installs against other methods -> build/payload.json"
	@echo "make bench-console  the serial line: noise and throughput, FUZZ_N=10000000 inputs -> build/console.json"
	@echo "make hil    the rig scenarios, RIG=sim or RIG=qemu -> build/hil.json"
	@echo "make hil-campaign  power cuts of terminals in QEMU, CUTS=200 -> build/campaign.html"
	@echo "make kills  SIGKILL at random moments, KILLS=20 of each process -> build/kills.json"
	@echo "make crash  power cuts at every operation; crash-full: on all devices -> build/crash.html"
	@echo "make mutants  seeded faults, each of which the exploration must find -> build/mutants.json"
	@echo "make sim-days  weeks of terminals in shops, DAYS=1000 terminal-days -> build/days.json, days.html"
	@echo "make bench-money  BATCHES=10000 of payments through updates that lose their power; a backup's seconds -> build/money.json"
	@echo "make fuzz   readers of bundles and payloads on bytes of every kind, FUZZ_S=600 seconds"
	@echo "make docs   write the generated pages of docs/"
	@echo "make screens  record the screens of docs/console.md in tmux and picocom, then make docs"

venv: .venv/.done
.venv/.done: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "posagent needs Python 3.11 or newer"'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ./.ci/install-packages python3-venv
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

deps:
	@./.ci/install-packages $(TOOLS)
bench-deps: deps
	@./.ci/install-packages $(BENCH_TOOLS)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_house.py tests/core/test_table.py

test: venv deps
	$(BIN)/pytest -n 2 --dist loadfile

# Terminals and the real hawkBit server, from Maven or from HAWKBIT_JAR (a quarter of an hour; skipped where neither has
# it): scenarios, the guide, two thousand light terminals; and a million polls -> build/fleet.json, stampede.svg,
# rollout.svg.
test-fleet: venv deps
	$(BIN)/pytest -n 0 -m fleet -rs tests/fleet
	$(BIN)/python -m tests.fleet.load
	$(BIN)/python -m tests.fleet.stampede

# Scenarios on a rig: sim is the simulated terminal, qemu the virtual one, else the path of a labgrid environment.
# HIL has more words for pytest, such as -m short. In QEMU two terminals run at once.
RIG ?= sim
ifneq ($(RIG),sim)
hil: .venv/.hil
endif
ifeq ($(RIG),qemu)
hil: hil-image
HIL_AT_ONCE := -n 2
endif
hil: venv deps
	$(BIN)/pytest hil --rig $(RIG) $(HIL_AT_ONCE) $(HIL)
.venv/.hil: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,hil]'
	@touch $@
hil-image:
	$(MAKE) -C hil image

# Power cuts of terminals in QEMU, by the hundred -> build/campaign.json, campaign.html. LIFE='…' lives one again.
CUTS ?= 200
hil-campaign: .venv/.hil hil-image deps
	$(BIN)/python -m hil.campaign --cuts $(CUTS) $(if $(LIFE),--life '$(LIFE)')

# SIGKILL of each process at random moments of real updates -> build/kills.json.
KILLS ?= 20
kills: venv deps
	$(BIN)/python -m tests.integration.kills --kills $(KILLS)

# Power cuts at every operation of whole updates, to a fixpoint -> build/crash.json, crash.html, power-loss.svg.
crash: venv
	$(BIN)/posagent-crash run --quick --seconds 30 --page docs/power-loss.md
crash-full: venv
	$(BIN)/posagent-crash run --page docs/power-loss.md

# Known mistakes put into the code: the exploration has to find each -> build/mutants.json.
mutants: venv
	$(BIN)/python -m tests.crash.mutants

# Terminal-days in shops, with their batteries, links, calendars and merchants -> build/days.json, build/days.html.
DAYS ?= 1000
sim-days: venv
	$(BIN)/python -m tests.days --days $(DAYS)

# Batches of money through updates whose power is cut at every operation on the data, seconds of a backup, card numbers
# in what a terminal tells -> build/money.json.
BATCHES ?= 10000
bench-money: venv deps
	$(BIN)/python -m tests.money --batches $(BATCHES)

# Coverage-guided inputs for whatever reads a bundle. What it finds stands in build/fuzz/crash-*.
FUZZ_S ?= 600
.venv/.fuzz: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@
fuzz: .venv/.fuzz
	@mkdir -p build/fuzz/corpus
	$(BIN)/python -m tests.fuzz.payload seeds build/fuzz/corpus
	$(BIN)/python -m tests.fuzz.payload -max_total_time=$(FUZZ_S) -max_len=65536 -rss_limit_mb=512 -timeout=20 \
	    -artifact_prefix=build/fuzz/ -print_final_stats=1 build/fuzz/corpus

demo: venv deps
	$(BIN)/python -m posagent.sim.demo

bench: venv bench-deps
	$(BIN)/python tests/bench/run.py

# Bytes, seconds and memory of deltas and full images against other methods -> build/payload.json. Needs root.
bench-payload: venv bench-deps
	@./.ci/install-packages $(PEERS)
	$(BIN)/python tests/bench/payload.py

# Uploads over noisy serial lines, and that many inputs for whatever reads the line -> build/console.json.
FUZZ_N ?= 200000
bench-console: venv deps
	$(BIN)/python -m tests.bench.console --fuzz $(FUZZ_N)

docs: venv
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/field_screen.py

# An engineer's session in a real terminal program -> docs/screens/*.txt, which docs/console.md shows.
screens: venv deps
	$(BIN)/python docs/screens.py
	$(BIN)/python docs/generate.py

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
