/* The initrd's only program: load the modules, mount the root file system, become its /sbin/init.
 * Written in C because every exec costs 25 ms in an emulated machine, and a shell needs dozens. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int kmsg;

static void load_modules(void)
{
	char path[256];
	FILE *list = fopen("/modules", "r");

	while (list && fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = 0;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
			dprintf(kmsg, "<3>lab-init: cannot load %s\n", path);
		if (fd >= 0)
			close(fd);
	}
	if (list)
		fclose(list);
}

int main(void)
{
	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	mount("dev", "/dev", "devtmpfs", 0, "");
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	/* accel.py waits for this line: it proves that the machine runs user space */
	dprintf(kmsg, "<3>lab-init: started\n");
	load_modules();
	for (int i = 0; i < 500; i++) {
		if (mount("/dev/vda", "/root", "ext4", MS_NOATIME, "") == 0) {
			mount("/dev", "/root/dev", 0, MS_MOVE, 0);
			if (chdir("/root") || mount(".", "/", 0, MS_MOVE, 0) || chroot(".") || chdir("/"))
				break;
			execl("/sbin/init", "init", (char *)0);
			break;
		}
		usleep(10000);
	}
	dprintf(kmsg, "<3>lab-init: no root file system\n");
	sleep(5);
	return 1;
}
