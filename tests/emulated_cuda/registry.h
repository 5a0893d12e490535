// Kernels by their names.
#pragma once

#include <map>
#include <string>
#include <utility>

struct Kernel {
    // With a pointer to each argument.
    void (*run)(void **arguments);
    // Whether threads of a block wait for each other.
    bool waits;
};

std::map<std::string, Kernel> &registered_kernels();

template <auto function> struct Unpacked;
template <class... A, void (*function)(A...)> struct Unpacked<function> {
    template <size_t... I> static void call(void **arguments, std::index_sequence<I...>) {
        function(*(std::remove_const_t<A> *)arguments[I]...);
    }
    static void run(void **arguments) { call(arguments, std::index_sequence_for<A...>{}); }
};

#define REGISTER(name, waits) \
    static const bool registered_##name = (registered_kernels()[#name] = {Unpacked<name>::run, waits}, true);
