// NVIDIA's driver for a device that does not exist: its memory is the program's, kernels run on the processor when
// they are launched. So a CUDA build of ft runs where there is no GPU, and everything but the GPU is tried: which kernels there are, what they
// are given, what is copied where. What runs at the same time on a device, and what a device is slow at, cannot be seen here.
//
// Every buffer ends where a page begins that nobody may touch; what was freed stays forbidden.

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "memory.h"
#include "registry.h"

typedef int Result;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

// What a thread of a kernel sees.
struct Place { unsigned x, y, z; };
Place emulated_thread, emulated_block, emulated_block_size, emulated_grid_size;

Counts emulated_counts;

Counts::~Counts() {
    const char *wanted = getenv("EMULATED_CUDA_COUNTS");
    if (!wanted) return;
    unsigned long launches = 0;
    for (auto &[name, count] : kernels) {
        launches += count;
        if (!strcmp(wanted, "kernels")) fprintf(stderr, "%8lu %s\n", count, name.c_str());
    }
    fprintf(stderr, "emulated device: %zu kernels in %lu launches, %lu products, %lu convolutions by cuDNN, %lu that it refused, "
                    "%lu gathered by NCCL\n",
            kernels.size(), launches, products, convolutions, refused, gathered);
}

std::map<std::string, Kernel> &registered_kernels() {
    static std::map<std::string, Kernel> kernels;
    return kernels;
}

std::mutex device;

namespace {

// Memory

struct Buffer { char *start; size_t mapped, bytes; };
std::map<uint64_t, Buffer> buffers;
uint64_t used = 0, most_used = 0, kept = 0;
const uint64_t MEMORY = 8ull << 30;

size_t page() { return (size_t)sysconf(_SC_PAGESIZE); }

Result allocate(uint64_t *address, size_t bytes) {
    if (used + bytes > MEMORY) return OUT_OF_MEMORY;
    // As aligned as 16 bytes allow, so up to 15 bytes behind it are not guarded.
    size_t padded = (bytes + 15) / 16 * 16, room = (padded + page() - 1) / page() * page();
    char *start = (char *)mmap(nullptr, room + page(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return OUT_OF_MEMORY;
    mprotect(start + room, page(), PROT_NONE);
    char *at = start + room - padded;
    memset(at, 0xff, padded); // NaN: what is read before it is written is seen.
    *address = (uint64_t)at;
    buffers[*address] = {start, room + page(), bytes};
    used += bytes;
    most_used = used > most_used ? used : most_used;
    return SUCCESS;
}

Result release(uint64_t address) {
    auto found = buffers.find(address);
    if (found == buffers.end()) return address == 0 ? SUCCESS : INVALID_VALUE;
    used -= found->second.bytes;
    munmap(found->second.start, found->second.mapped);
    buffers.erase(found);
    return SUCCESS;
}

Result copy(void *to, const void *from, size_t bytes, bool device_to, bool device_from) {
    if ((device_to && !owned((uint64_t)to, bytes)) || (device_from && !owned((uint64_t)from, bytes))) {
        fprintf(stderr, "emulated device: a copy of %zu bytes goes beyond its buffer\n", bytes);
        return INVALID_VALUE;
    }
    memmove(to, from, bytes);
    return SUCCESS;
}

// Kernels

struct Module { std::set<std::string> entries; };
struct Function { std::string name; Kernel kernel; };

// Threads of a block that wait for each other.
const size_t STACK = 64 << 10;
struct Fiber { ucontext_t context; bool done; };
std::vector<Fiber> fibers;
std::vector<char> stacks, exchanged;
ucontext_t scheduler;
size_t current;
Kernel fiber_kernel;
void **fiber_arguments;

void fiber_body() {
    fiber_kernel.run(fiber_arguments);
    fibers[current].done = true;
    swapcontext(&fibers[current].context, &scheduler);
}

Place place_of(unsigned thread) {
    Place size = emulated_block_size;
    return {thread % size.x, thread / size.x % size.y, thread / size.x / size.y};
}

void run_block_of_fibers(const Kernel &kernel, void **arguments, unsigned threads) {
    fiber_kernel = kernel, fiber_arguments = arguments;
    fibers.resize(threads), stacks.resize(threads * STACK), exchanged.resize(threads * 16);
    for (unsigned i = 0; i < threads; i++) {
        fibers[i].done = false;
        getcontext(&fibers[i].context);
        fibers[i].context.uc_stack.ss_sp = &stacks[i * STACK];
        fibers[i].context.uc_stack.ss_size = STACK;
        fibers[i].context.uc_link = &scheduler;
        makecontext(&fibers[i].context, fiber_body, 0);
    }
    for (bool left = true; left;) {
        left = false;
        for (current = 0; current < threads; current++) {
            if (fibers[current].done) continue;
            emulated_thread = place_of((unsigned)current);
            swapcontext(&scheduler, &fibers[current].context);
            left |= !fibers[current].done;
        }
    }
}

Result launch(const Function &function, Place grid, Place block, void **arguments) {
    unsigned threads = block.x * block.y * block.z;
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0) return INVALID_VALUE;
    emulated_block_size = block, emulated_grid_size = grid;
    Place &at = emulated_block;
    for (at.z = 0; at.z < grid.z; at.z++)
        for (at.y = 0; at.y < grid.y; at.y++)
            for (at.x = 0; at.x < grid.x; at.x++) {
                if (function.kernel.waits) {
                    run_block_of_fibers(function.kernel, arguments, threads);
                    continue;
                }
                for (unsigned thread = 0; thread < threads; thread++) {
                    emulated_thread = place_of(thread);
                    function.kernel.run(arguments);
                }
            }
    return SUCCESS;
}

} // namespace

// Whether all of these bytes are one buffer's.
bool owned(uint64_t address, size_t bytes) {
    auto next = buffers.upper_bound(address);
    if (bytes == 0) return true;
    if (next == buffers.begin()) return false;
    auto &[start, buffer] = *std::prev(next);
    return address + bytes <= start + buffer.bytes;
}

void __syncthreads() {
    swapcontext(&fibers[current].context, &scheduler);
    emulated_thread = place_of((unsigned)current);
}

void emulated_exchange(void *value, size_t size, unsigned mask) {
    size_t own = current, other = own / 32 * 32 + (own % 32 ^ mask);
    memcpy(&exchanged[own * 16], value, size);
    __syncthreads();
    if (other < fibers.size()) memcpy(value, &exchanged[other * 16], size);
    __syncthreads();
}

extern "C" {

// Devices and contexts

Result cuInit(unsigned) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceGet(int *device, int number) { return *device = number, number == 0 ? SUCCESS : 101; }
Result cuDeviceGetName(char *name, int length, int) { return snprintf(name, (size_t)length, "emulated device"), SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int) {
    static const std::map<int, int> known = {{1, 1024}, {10, 32}, {16, 8}, {75, 8}, {76, 0}, {115, 1}};
    auto found = known.find(attribute);
    return *value = found == known.end() ? 0 : found->second, SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **context, int) { return *context = (void *)1, SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxSetCurrent(void *) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { return *context = (void *)1, SUCCESS; }
Result cuCtxSynchronize() { return SUCCESS; }
// NVIDIA's own runtime asks for it and does without.
Result cuGetExportTable(const void **, const void *) { return NOT_SUPPORTED; }
Result cuGetErrorName(Result, const char **text) { return *text = "emulated error", SUCCESS; }
Result cuGetErrorString(Result, const char **text) { return *text = "an error of the emulated device", SUCCESS; }

// Streams and events: everything is done when it is asked for.

Result cuStreamCreate(void **stream, unsigned) { return *stream = malloc(1), SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { return free(stream), SUCCESS; }
Result cuStreamSynchronize(void *) { return SUCCESS; }
Result cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
Result cuStreamIsCapturing(void *, int *status) { return *status = 0, SUCCESS; }
Result cuEventCreate(void **event, unsigned) { return *event = malloc(1), SUCCESS; }
Result cuEventDestroy_v2(void *event) { return free(event), SUCCESS; }
Result cuEventRecord(void *, void *) { return SUCCESS; }
Result cuEventSynchronize(void *) { return SUCCESS; }
Result cuEventQuery(void *) { return SUCCESS; }
Result cuEventElapsedTime_v2(float *milliseconds, void *, void *) { return *milliseconds = 0, SUCCESS; }

// Memory

Result cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    std::lock_guard<std::mutex> lock(device);
    return allocate(address, bytes);
}
Result cuMemAllocAsync(uint64_t *address, size_t bytes, void *) { return cuMemAlloc_v2(address, bytes); }
Result cuMemFree_v2(uint64_t address) {
    std::lock_guard<std::mutex> lock(device);
    return release(address);
}
Result cuMemFreeAsync(uint64_t address, void *) { return cuMemFree_v2(address); }
Result cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = MEMORY - used, *total = MEMORY, SUCCESS; }
Result cuMemHostAlloc(void **address, size_t bytes, unsigned) { return *address = malloc(bytes), SUCCESS; }
Result cuMemFreeHost(void *address) { return free(address), SUCCESS; }
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
    std::lock_guard<std::mutex> lock(device);
    return copy((void *)to, from, bytes, true, false);
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
    std::lock_guard<std::mutex> lock(device);
    return copy(to, (const void *)from, bytes, false, true);
}
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) {
    std::lock_guard<std::mutex> lock(device);
    return copy((void *)to, (const void *)from, bytes, true, true);
}
Result cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *) {
    std::lock_guard<std::mutex> lock(device);
    if (!owned(to, bytes)) return INVALID_VALUE;
    return memset((void *)to, value, bytes), SUCCESS;
}
Result cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = (void *)1, SUCCESS; }
Result cuMemPoolGetAttribute(void *, int attribute, void *value) {
    std::map<int, uint64_t> values = {{4, kept}, {5, used}, {7, used}, {8, most_used}};
    if (!values.count(attribute)) return INVALID_VALUE;
    return memcpy(value, &values[attribute], 8), SUCCESS;
}
Result cuMemPoolSetAttribute(void *, int attribute, const void *value) {
    if (attribute == 4) return memcpy(&kept, value, 8), SUCCESS;
    if (attribute == 8) return most_used = used, SUCCESS;
    return INVALID_VALUE;
}

// Kernels

Result cuModuleLoadData(void **module, const void *image) {
    // In the assembly language kernels are `.entry NAME(`.
    auto *loaded = new Module;
    const char *text = (const char *)image, *entry = ".entry ";
    for (const char *at = strstr(text, entry); at; at = strstr(at, entry)) {
        at += strlen(entry);
        loaded->entries.insert(std::string(at, strcspn(at, "( \n")));
    }
    return *module = loaded, SUCCESS;
}
Result cuModuleUnload(void *module) { return delete (Module *)module, SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    if (!((Module *)module)->entries.count(name)) return NOT_FOUND;
    auto found = registered_kernels().find(name);
    if (found == registered_kernels().end()) {
        fprintf(stderr, "emulated device: the kernel %s is not emulated\n", name);
        return NOT_SUPPORTED;
    }
    static std::map<std::string, Function> functions;
    std::lock_guard<std::mutex> lock(device);
    return *function = &functions.emplace(name, Function{name, found->second}).first->second, SUCCESS;
}
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *,
                      void **arguments, void **) {
    std::lock_guard<std::mutex> lock(device);
    emulated_counts.kernels[((Function *)function)->name]++;
    return launch(*(Function *)function, {gx, gy, gz}, {bx, by, bz}, arguments);
}
}
