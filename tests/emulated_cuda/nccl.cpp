// NCCL's gathering between processes of one machine, each of which has an emulated device: through a file that all of them map.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>

#include "memory.h"

namespace {

enum { SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, FLOAT32 = 7 };

// Bytes that a rank may give at a time.
const size_t ROOM = 32 << 20;

struct Shared { std::atomic<int> arrived, round; };

struct Comm {
    int rank, ranks;
    std::string path;
    char *mapped;
    size_t size;

    Shared &shared() { return *(Shared *)mapped; }
    char *slot(int rank) { return mapped + 4096 + (size_t)rank * ROOM; }

    // Waits until all ranks are here.
    void meet() {
        int round = shared().round;
        if (++shared().arrived == ranks) {
            shared().arrived = 0;
            shared().round++;
        } else {
            while (shared().round == round) sched_yield();
        }
    }
};

} // namespace

extern "C" {

struct Id { char name[128]; };

int ncclGetUniqueId(Id *id) {
    static int made = 0;
    memset(id->name, 0, sizeof id->name);
    snprintf(id->name, sizeof id->name, "/dev/shm/emulated-nccl-%d-%d", getpid(), made++);
    int file = open(id->name, O_CREAT | O_EXCL | O_RDWR, 0600);
    // The rest is zeros.
    bool good = file >= 0 && ftruncate(file, 4096) == 0;
    if (file >= 0) close(file);
    return good ? 0 : SYSTEM_ERROR;
}

int ncclCommInitRank(Comm **made, int ranks, Id id, int rank) {
    auto *comm = new Comm{rank, ranks, id.name, nullptr, 4096 + (size_t)ranks * ROOM};
    int file = open(id.name, O_RDWR);
    bool good = file >= 0 && rank < ranks && ftruncate(file, (off_t)comm->size) == 0;
    if (good) comm->mapped = (char *)mmap(nullptr, comm->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    if (!good || comm->mapped == MAP_FAILED) return delete comm, SYSTEM_ERROR;
    comm->meet();
    // Everybody has it open.
    if (rank == 0) unlink(id.name);
    return *made = comm, 0;
}

int ncclAllGather(const void *own, void *all, size_t count, int type, Comm *comm, void *) {
    size_t bytes = count * 4;
    {
        std::lock_guard<std::mutex> lock(device);
        bool good = type == FLOAT32 && bytes <= ROOM && owned((uint64_t)own, bytes) && owned((uint64_t)all, bytes * (size_t)comm->ranks);
        if (!good) return INVALID_ARGUMENT;
        emulated_counts.gathered++;
    }
    memcpy(comm->slot(comm->rank), own, bytes);
    comm->meet();
    for (int rank = 0; rank < comm->ranks; rank++) memcpy((char *)all + (size_t)rank * bytes, comm->slot(rank), bytes);
    // Nobody writes to a slot that others still read.
    comm->meet();
    return 0;
}

int ncclCommDestroy(Comm *comm) {
    munmap(comm->mapped, comm->size);
    return delete comm, 0;
}
int ncclCommFinalize(Comm *) { return 0; }
int ncclCommAbort(Comm *comm) { return ncclCommDestroy(comm); }
int ncclGroupStart() { return 0; }
int ncclGroupEnd() { return 0; }
const char *ncclGetErrorString(int) { return "an error of the emulated NCCL"; }
}
