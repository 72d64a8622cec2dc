// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi-test KVMI: tests of kvmi that need no kernel. Prints TAP.
 */
#include <stdio.h>

#include "test.h"

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: kvmi-test KVMI\n");
		return 2;
	}

	test_units();
	test_vms();
	test_library();
	test_tool(argv[1]);
	test_serve();

	return tap_end();
}
