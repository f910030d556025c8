/* Preloaded before a program's own libraries: lets one call that writes below a folder fail, the n-th since armed, or
   sends this process a signal at that call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[4096];
static long which = -1, seen = 0;
static int number = 0, from_then_on = 0;

/* call: 0 only counts. error: a negative one is a signal. stays: later calls fail too, as on a disk that stays full. */
void disk_arm(const char *below, long call, int error, int stays) {
    strncpy(folder, below, sizeof folder - 1);
    which = call, seen = 0, number = error, from_then_on = stays;
}

long disk_seen(void) { return seen; }

static int fails(const char *path) {
    if (which < 0 || path == NULL || strncmp(path, folder, strlen(folder)) != 0) return 0;
    long now = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (which == 0 || now < which || (now > which && !from_then_on)) return 0;
    if (number < 0) {
        if (now == which) kill(getpid(), -number);
        return 0;
    }
    errno = number;
    return 1;
}

static int fails_at(int descriptor) {
    char link[64], path[4096];
    if (which < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails(path)) return -1; \
        return REAL(name)(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails(path)) return -1; \
        return REAL(name)(at, path, flags, mode); \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

/* Of what a full disk has no room for, it takes the first half. */
#define WRITE(name, ...) \
    if (!fails_at(d)) return REAL(name)(d, b, n, ##__VA_ARGS__); \
    int error = errno; \
    if (error == ENOSPC && REAL(name)(d, b, n / 2, ##__VA_ARGS__) < 0) {} \
    errno = error; \
    return -1;
ssize_t write(int d, const void *b, size_t n) { WRITE(write) }
ssize_t pwrite(int d, const void *b, size_t n, off_t o) { WRITE(pwrite, o) }
ssize_t pwrite64(int d, const void *b, size_t n, off_t o) { WRITE(pwrite64, o) }
ssize_t writev(int d, const struct iovec *v, int n) { return fails_at(d) ? -1 : REAL(writev)(d, v, n); }
int fsync(int d) { return fails_at(d) ? -1 : REAL(fsync)(d); }
int fdatasync(int d) { return fails_at(d) ? -1 : REAL(fdatasync)(d); }
int ftruncate(int d, off_t n) { return fails_at(d) ? -1 : REAL(ftruncate)(d, n); }
int ftruncate64(int d, off_t n) { return fails_at(d) ? -1 : REAL(ftruncate64)(d, n); }
int posix_fallocate(int d, off_t o, off_t n) { return fails_at(d) ? errno : REAL(posix_fallocate)(d, o, n); }
int rename(const char *a, const char *b) { return fails(b) ? -1 : REAL(rename)(a, b); }
int renameat(int x, const char *a, int y, const char *b) { return fails(b) ? -1 : REAL(renameat)(x, a, y, b); }
int mkdir(const char *p, mode_t m) { return fails(p) ? -1 : REAL(mkdir)(p, m); }
