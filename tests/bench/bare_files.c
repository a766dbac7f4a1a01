/* What the kernel and the file system take for an archive's files, with no Python at all.

   bare_files FOLDER THREADS COUNT MEDIA_BYTES SIDECAR_BYTES: so many pairs of files, each made without a name, written,
   linked and looked at again, as the archiver makes them; a folder for each thousand. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *folder;
static atomic_int next_one;
static int count;
static char *bytes;
static size_t sizes[2];
static const char *endings[] = {"mp3", "json"};

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void put(int number, int part) {
    char name[4096], source[64];
    struct stat found;
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) fail("open");
    for (size_t done = 0; done < sizes[part];) {
        ssize_t taken = write(fd, bytes + done, sizes[part] - done);
        if (taken <= 0) fail("write");
        done += (size_t)taken;
    }
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    snprintf(name, sizeof name, "%s/%d/%d.%s", folder, number / 1000, number, endings[part]);
    if (linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW)) fail("link");
    if (lstat(name, &found) || (size_t)found.st_size != sizes[part]) fail("stat");
    if (close(fd)) fail("close");
}

static void *work(void *unused) {
    int number;
    while ((number = atomic_fetch_add(&next_one, 1)) < count)
        for (int part = 0; part < 2; part++) put(number, part);
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    folder = argv[1];
    int threads_count = atoi(argv[2]);
    count = atoi(argv[3]);
    sizes[0] = strtoul(argv[4], NULL, 10);
    sizes[1] = strtoul(argv[5], NULL, 10);
    bytes = malloc(sizes[0] + sizes[1]);
    if (!bytes) fail("malloc");
    memset(bytes, 'x', sizes[0] + sizes[1]);
    for (int day = 0; day * 1000 < count; day++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%d", folder, day);
        if (mkdir(name, 0700)) fail("mkdir");
    }
    pthread_t *threads = calloc((size_t)threads_count, sizeof *threads);
    for (int n = 0; n < threads_count; n++)
        if (pthread_create(&threads[n], NULL, work, NULL)) fail("thread");
    for (int n = 0; n < threads_count; n++) pthread_join(threads[n], NULL);
    return 0;
}
