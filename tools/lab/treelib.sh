# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts that deal with build/linux know about its history: on top of
# the tag "base" there are patch commits (edits of the kernel's own files) and
# overlay commits (links to our files), in any order, and never both in one.
# With TREE=qemu they do the same for build/qemu, with what is in tools/qemu.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# tree: where the tree is; ours: where our files are, by their paths in the tree,
# and patches/; steps: where series.txt and changelogs/ are; make_prefix: of
# the targets in the Makefile.
# shellcheck disable=SC2034
case ${TREE:=linux} in
linux)
	project=kernel tree=$LINUX_DIR ours=$TOP steps=$LAB make_prefix=
	overlay_dirs=(Documentation arch include virt tools/testing tools/kvm samples) ;;
qemu)
	project=QEMU tree=$BUILD/qemu ours=$TOP/tools/qemu steps=$TOP/tools/qemu make_prefix=qemu-
	overlay_dirs=(accel docs include monitor qapi tests) ;;
*) fail "TREE=$TREE: there are linux and qemu" ;;
esac
tree_name=build/$TREE
# shellcheck disable=SC2034
patches=$(realpath -m --relative-to="$TOP" "$ours/patches")

lgit() {
	git -C "$tree" "$@"
}

# The identity for commits in there: the user's, if there is one.
if ! git config user.email >/dev/null; then
	export GIT_AUTHOR_NAME=lab GIT_AUTHOR_EMAIL=lab@localhost
	export GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@localhost
fi

# our_files: what belongs into the kernel tree, by its path there.
our_files() {
	git -C "$ours" ls-files -co --exclude-standard --deduplicate -- "${overlay_dirs[@]}" |
		while read -r f; do
			[ ! -f "$ours/$f" ] || say "$f"
		done | sort
}

# kind COMMIT: patch, overlay or mixed.
kind() {
	lgit diff-tree -r --no-commit-id --no-renames "$1" |
		awk '{ if ($2 == "120000" || ($1 == ":120000" && $2 == "000000")) o = 1; else p = 1 }
			END { print o && p ? "mixed" : o ? "overlay" : "patch" }'
}

# patch_commits: the patch commits, oldest first.
patch_commits() {
	local c
	for c in $(lgit rev-list --reverse base..HEAD); do
		case $(kind "$c") in
		patch) say "$c" ;;
		mixed) fail "$tree_name: $(lgit log -1 --format='%h "%s"' "$c") has links to our files next to edits of its own; split it" ;;
		esac
	done
}

# export_patch NUMBER COMMIT DIR: the same commit gives the same file anywhere.
export_patch() {
	lgit format-patch -q --start-number "$1" -1 --zero-commit --no-signature --no-numbered --no-renames \
		--full-index --stat=72 --diff-algorithm=myers --no-color -o "$3" "$2"
}

# export_patches DIR
export_patches() {
	local n=0 c commits
	rm -rf "$1"
	mkdir -p "$1"
	commits=$(patch_commits)
	for c in $commits; do
		n=$((n + 1))
		export_patch "$n" "$c" "$1"
	done
}

# sum_patches DIR: one hash for a set of patches.
sum_patches() {
	{ [ ! -d "$1" ] || (cd "$1" && find . -maxdepth 1 -name '*.patch' | sort | xargs -r sha256sum); } |
		sha256sum | cut -d' ' -f1
}

# What patches/ and build/linux were when they last said the same: two sums. They
# differ in hashes and line numbers when the kernel is not quite the one that
# the patches were made on.
remember() {
	printf '%s %s\n' "$(sum_patches "$ours/patches")" "$(sum_patches "$1")" >"$tree/.git/kvmi-synced"
}

# compare DIR: sets repo_changed and tree_changed (0 or 1) for the exported
# patches in DIR and patches/, as against the last time that they were the same.
# shellcheck disable=SC2034
compare() {
	local repo made old_repo old_tree none
	repo=$(sum_patches "$ours/patches")
	made=$(sum_patches "$1")
	none=$(sum_patches /nonexistent)
	[ "$repo" != "$made" ] || remember "$1"
	read -r old_repo old_tree < <(cat "$tree/.git/kvmi-synced" 2>/dev/null || echo "$none $none")
	repo_changed=0 tree_changed=0
	[ "$repo" = "$old_repo" ] || repo_changed=1
	[ "$made" = "$old_tree" ] || tree_changed=1
}

# uncommitted: edits of the kernel's own files that no commit has.
uncommitted() {
	lgit status --porcelain -uno | awk '{ print $2 }'
}
