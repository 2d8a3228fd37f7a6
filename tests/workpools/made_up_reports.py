"""Reports with made-up numbers: of this version, of version 1, and of the two public layouts from before this project."""

from __future__ import annotations

from typing import Any

VERSION_1: dict[str, Any] = {
    "report_version": 1,
    "host": "pi-4",
    "created_at": "2025-01-02T06:00:00Z",
    "os": "Linux 6.1",
    "architecture": "aarch64",
    "python": "3.11.2",
    "versions": {"numpy": "2.4.6"},
    "cores_physical": 4,
    "cores_logical": 4,
    "ram_total_gb": 8.0,
    "ram_available_gb": 6.5,
    "disk_free_gb": 50,
    "gpus": [],
    "engines": ["embedder"],
    "matrix_gflops": 12.5,
    "embedding_texts_per_s": None,
    "disk_write_mb_s": 30,
    "tier": "medium",
    "profiles": {"prerequisites": True, "e0_e1": True, "e2_quantized": True, "e2": False},
    "reasons": ["not strong: 6.50 GB RAM available, 12 needed"],
}
GOOD: dict[str, Any] = VERSION_1 | {
    "report_version": 2,
    "ram_limit_gb": 7,
    "cpu_flags": ["asimd"],
    "unmet_requirements": ["peft>=0.18"],
    "prefill_tokens_per_s": 60.5,
    "ollama_models": ["phi3:mini"],
    "clock_offset_s": -0.4,
    "models": ["smollm2-135m", "ollama/phi3:mini"],
    "mlx_lora": "LoRA through mlx: torch and peft are not both installed",
}

BASIC: dict[str, Any] = {
    "timestamp": "2025-01-02 06:00:00",
    "hostname": "Old_Laptop.local",
    "system": {
        "platform": "Linux",
        "processor": "",
        "architecture": "x86_64",
        "python_version": "3.12.3 (main) [GCC 13.3.0]",
        "cpu_count": 8,
        "cpu_count_physical": 4,
        "ram_gb": 8,
        "ram_available_gb": 5.5,
        "disk_free_gb": 100.25,
        "gpu": "NVIDIA GeForce GTX 1050, 4096 MiB\nNVIDIA GeForce GTX 1060, 6144 MiB",
        "gpu_type": "nvidia",
    },
    "benchmark": {"matrix_mult_time": 4.2, "operations_per_second": 23.8},
    "capabilities": {
        "prerequisites": True,
        "e0_e1": True,
        "e2_full": False,
        "e2_quantized": False,
        "model_recommendations": ["phi3"],
    },
}

ENHANCED: dict[str, Any] = {
    "metadata": {
        "timestamp": "2025-01-02T06:00:00.123456",
        "duration_seconds": 60.5,
        "hostname": "Desk",
        "report_version": "2.0",
    },
    "results": {
        "system": {
            "hostname": "Desk",
            "platform": "Linux",
            "platform_release": "6.8",
            "platform_version": "#1 SMP",
            "architecture": "x86_64",
            "processor": "x86_64",
            "python_version": "3.12.3 (main) [GCC 13.3.0]",
            "python_implementation": "CPython",
            "cpu": {
                "physical_cores": None,
                "logical_cores": 16,
                "current_freq_mhz": 4000.5,
                "min_freq_mhz": 0.0,
                "max_freq_mhz": None,
            },
            "memory": {
                "total_gb": 32,
                "available_gb": 20.0,
                "used_gb": 12,
                "percent_used": 37.5,
                "swap_total_gb": 0,
                "swap_used_gb": 0,
            },
            "storage": {"total_gb": 500, "used_gb": 100, "free_gb": 400, "percent_used": 20},
            "gpu": {"type": "nvidia", "name": "NVIDIA GeForce RTX 3060", "memory": "12288 MiB", "driver": "550"},
        },
        "cpu": {
            "matrix_mult": {"time_seconds": 1.0, "gflops": 100.0},
            "fft": {"time_seconds": 4.0, "throughput_msamples_sec": 26.0},
            "integer_ops": {"time_seconds": 3.0, "ops_per_second": 3e7},
            "threading": {"single_thread_time": 0.4, "multi_thread_time": 0.4, "threads_used": 8, "speedup": 1.0},
            "rating": "Excellent",
        },
        "memory": {
            "max_allocation_gb": 16,
            "bandwidth_gb_s": {"read": 30, "write": 15},
            "pressure_test": {"status": "ok"},
        },
        "storage": {
            "4KB": {"read_mb_s": 2000, "write_mb_s": 1.5, "iterations": 100},
            "1MB": {"read_mb_s": 9000, "write_mb_s": 90, "iterations": 100},
            "10MB": {"read_mb_s": 9000, "write_mb_s": 100.0, "iterations": 10},
            "random_access": {"iops": 400000, "latency_ms": 0.0},
            "rating": "SSD (Good)",
        },
        "software": {"numpy": {"installed": True, "required": True}, "git": {"installed": True, "version": "git 2.43"}},
        "llm": {
            "ollama": {"available": True, "models": ["phi3:mini", "llama3:8b"], "has_phi3": True, "status": "ready"},
            "embeddings": {
                "status": "ready",
                "model": "all-MiniLM-L6-v2",
                "load_time_s": 3.0,
                "encode_time_s": 0.2,
                "throughput_sents_per_sec": 500,
                "embedding_dim": 384,
            },
            "inference": {"status": "success", "tokens_per_sec_estimate": 100},
            "finetuning": {"lora_rank_8": True},
        },
        "network": {"internet": True, "github": True, "bandwidth": "Not tested"},
        "eligibility": {
            "prerequisites": {"eligible": True, "reasons": ["Sufficient memory and disk"]},
            "e0_parameter_optimization": {"eligible": True, "reasons": []},
            "e1_memory_retrieval": {"eligible": True, "reasons": []},
            "e2_finetuning_full": {"eligible": True, "reasons": []},
            "e2_finetuning_quantized": {"eligible": False, "reasons": []},
            "machine_tier": 3,
            "recommended_role": "Full experiment runner (all phases)",
        },
    },
    "recommendations": [],
    "warnings": ["Required package 'scipy' not installed"],
}
