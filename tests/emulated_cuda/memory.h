// The emulated device's memory, and what has been done on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

// Held by whoever works on the device.
extern std::mutex device;

// Whether all of these bytes are one buffer's.
bool owned(uint64_t address, size_t bytes);

// Told at the end if EMULATED_CUDA_COUNTS is set; kernel by kernel if it is `kernels`.
struct Counts {
    std::map<std::string, unsigned long> kernels;
    unsigned long products = 0, convolutions = 0, refused = 0, gathered = 0;
    ~Counts();
};
extern Counts emulated_counts;
