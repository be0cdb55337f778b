/* How fast this processor's time stamp counter runs, in kHz. Guests read it as it is (QEMU's TCG does not scale it), and
 * a guest that measures it itself while this machine is busy gets it wrong: its clock then ran 7 times too fast (seen). */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct reading {
	long long ns;
	unsigned long long ticks;
};

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* The closest of many pairs: one that was interrupted between its two halves is not it. */
static struct reading read_both(void)
{
	struct reading best = { 0, 0 };
	long long least = -1;
	for (int i = 0; i < 1000; i++) {
		long long before = now();
		unsigned long long ticks = __rdtsc();
		long long apart = now() - before;
		if (least < 0 || apart < least) {
			least = apart;
			best.ns = before + apart / 2;
			best.ticks = ticks;
		}
	}
	return best;
}

int main(void)
{
	struct timespec pause = { 0, 200000000 };
	struct reading first = read_both();
	nanosleep(&pause, NULL);
	struct reading last = read_both();
	printf("%.0f\n", (double)(last.ticks - first.ticks) * 1e6 / (double)(last.ns - first.ns));
	return 0;
}
