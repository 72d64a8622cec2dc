# SPDX-License-Identifier: GPL-2.0
#
# Everything is done by a script in tools/lab; build products go to build/.

LINUX ?=
BUILD ?= build
PLATFORM ?=
TEST ?=
BASE ?=
export LINUX BUILD PLATFORM TEST BASE

lab := tools/lab

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r t d; do printf '  make %-14s %s\n' "$$t" "$$d"; done
	@echo
	@echo '  LINUX=DIR|TARBALL    tree: your own kernel instead of Linux 7.3 from Debian'
	@echo '  PLATFORM=qemu-svm|bochs-vmx|bochs-svm, TEST=GLOB    check, bench: only these'
	@echo '  BASE=REV             bench: compare with that revision of this repository'

run: kernel ## the demonstration: a live guest under introspection
	@$(lab)/run

check: ## every test, on three emulated machines (about half an hour)
	@$(lab)/check

check-debug: ## the tests on a kernel with KASAN and the like: hours
	@$(lab)/check-debug

bench: deps ## what introspection costs, in instructions: build/bench.json
	@$(lab)/bench

shell: kernel ## a shell in the emulated AMD machine, with this machine's files
	@$(lab)/shell

deps: ## install the Debian packages that all this needs (root)
	@$(lab)/deps

tree: deps ## fetch the kernel, apply patches/, link our files: build/linux
	@$(lab)/tree

patches: ## write the commits made in build/linux back to patches/
	@$(lab)/patches

kernel: tree ## build the lab kernel
	@$(lab)/kernel

kvmi: tree ## build the kvmi command
	@$(lab)/kvmi

qemu: qemu-tree ## build QEMU 10 with the object that offers a VM to a tool
	@$(lab)/qemu-build

qemu-check: qemu-tree ## the tests of that object, without KVM
	@$(lab)/qemu-check

qemu-live: qemu kernel ## QEMU with a guest and a tool, on KVM in the emulated AMD machine
	@$(lab)/qemu-lab live

qemu-survive: qemu kernel kvmi ## 200 random actions on such a guest
	@$(lab)/qemu-lab survive

qemu-tree: deps ## fetch QEMU, apply tools/qemu/patches, link our files: build/qemu
	@TREE=qemu $(lab)/tree

qemu-patches: ## write the commits made in build/qemu back to tools/qemu/patches
	@TREE=qemu $(lab)/patches

qemu-series: qemu-tree ## the mail-ready series for QEMU, in build/qemu-series-out
	@TREE=qemu $(lab)/series

lint: tree ## checkpatch, sparse, W=1, shellcheck, documentation
	@$(lab)/lint

series: tree ## the mail-ready series, in build/series-out
	@$(lab)/series

series-check: tree ## does it apply, and does every commit compile?
	@$(lab)/series-check

clean: ## remove build/; downloads and the compiler cache stay
	rm -rf $(BUILD)

.PHONY: help run check check-debug bench shell deps tree patches kernel kvmi lint series series-check clean
.PHONY: qemu qemu-check qemu-live qemu-survive qemu-tree qemu-patches qemu-series
.DEFAULT_GOAL := help
