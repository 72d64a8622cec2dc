// SPDX-License-Identifier: GPL-2.0
/*
 * libkvmi: where running tools are found.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "served.h"

/**
 * kvmi_run_dir - find the directory for what running tools leave
 * @path: out
 * @size: its size
 * @create: make it, if it is not there
 *
 * /run/kvmi for root, for other users below $XDG_RUNTIME_DIR; KVMI_RUN_DIR in
 * the environment comes first.
 *
 * Return: false if there is none
 */
bool kvmi_run_dir(char *path, size_t size, bool create)
{
	const char *dir = getenv("KVMI_RUN_DIR"), *below = "";
	int n;

	if (!dir) {
		dir = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
		below = "/kvmi";
	}
	if (!dir || *dir != '/')
		return false;

	n = snprintf(path, size, "%s%s", dir, below);
	if (n < 0 || (size_t)n >= size)
		return false;
	if (create)
		mkdir(path, 0755);
	return true;
}
