"""Names that a programmer might give to the functions of each family: PhaseConfig.names = natural.

They say what a function does and so hint at its class, as real code does; none names a class. With neutral names, the
default, only the code itself can tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

NATURAL: dict[str, tuple[str, ...]] = {
    # O(1)
    "ends": ("compare_ends", "first_and_last"),
    "middle": ("middle_value", "median_of_few"),
    "formula": ("mix_bits", "closed_form"),
    "lookup": ("lookup_code", "table_entry"),
    "few_picks": ("sample_few", "pick_some"),
    "swap_ends": ("swap_ends", "exchange_ends"),
    "clamp": ("clamp_value", "limit_value"),
    "pop_push": ("replace_last", "pop_and_push"),
    "small_grid": ("small_grid_sum", "fixed_table"),
    "dates": ("leap_year_offset", "day_of_week"),
    "low_bits": ("count_low_bits", "parity_of_word"),
    "short_sort": ("sort_head", "middle_of_head"),
    "fixed_calls": ("few_rounds", "mix_rounds"),
    # O(log n)
    "shrink": ("halve_until_zero", "count_halvings"),
    "grow": ("double_until", "next_power"),
    "grow_index": ("probe_doubling", "doubling_steps"),
    "seek": ("binary_search", "lower_bound"),
    "seek_again": ("binary_search", "search_between"),
    "descend": ("count_halvings", "tree_depth"),
    "bits": ("count_bits", "bit_length"),
    "repeated_square": ("fast_power", "power_by_squaring"),
    "digits": ("largest_digit", "digit_values"),
    "whole_root": ("integer_root", "root_by_bisection"),
    "one_heap_step": ("heap_replace", "next_in_queue"),
    "find_place": ("insertion_point", "count_in_sorted"),
    "climb": ("walk_down_heap", "sift_path"),
    "narrow_passes": ("digit_rounds", "halving_rounds"),
    "wide_then_narrow": ("galloping_search", "doubling_search"),
    # O(n)
    "walk": ("sum_values", "fold_values"),
    "steps": ("sum_to", "accumulate_range"),
    "inward": ("compare_mirrored", "palindrome_score"),
    "countdown": ("count_down", "sum_down"),
    "one_by_one": ("sum_recursive", "fold_recursive"),
    "counts_by_key": ("count_duplicates", "count_seen"),
    "two_passes": ("deviation_from_mean", "total_and_spread"),
    "narrow_inside": ("mix_each", "score_each"),
    "narrow_before": ("sum_neighbours", "local_window"),
    "moving_window": ("sliding_window", "moving_sum"),
    "shrinking_passes": ("sum_of_levels", "level_passes"),
    "half_and_half": ("tournament", "combine_halves"),
    "halves_of_list": ("tree_sum", "range_sum"),
    "waiting_pile": ("next_greater", "monotone_stack"),
    "running_best": ("best_subarray", "largest_run"),
    "two_numbers": ("fibonacci", "next_pair"),
    "library_pass": ("scale_values", "map_and_sum"),
    "running_sums": ("prefix_sums", "cumulative_sum"),
    # O(n log n)
    "rows_shrink": ("total_bits", "halvings_of_each"),
    "rows_grow": ("doublings_of_each", "probe_each"),
    "ordered_walk": ("sort_and_scan", "order_statistics"),
    "ordered_gaps": ("longest_run_sorted", "sorted_gaps"),
    "ordered_inward": ("pair_sums_sorted", "two_pointers"),
    "fill_and_drain": ("heap_sort", "drain_queue"),
    "two_runs": ("merge_sort", "divide_and_merge"),
    "split_and_count": ("divide_and_count", "count_by_halves"),
    "seek_each": ("rank_all", "count_smaller"),
    "harmonic_strides": ("sum_of_divisors", "divisor_sieve"),
    "doubling_passes": ("pointer_jumping", "prefix_maxima"),
    "halving_passes": ("shell_passes", "halving_rounds_all"),
    "rank_by_order": ("rank_values", "compress_values"),
    # O(n^2)
    "all_pairs": ("compare_all_pairs", "pair_sum"),
    "grid": ("grid_sum", "multiplication_table"),
    "neighbour_swaps": ("bubble_sort", "swap_neighbours"),
    "sink_back": ("insertion_sort", "sort_in_place"),
    "pick_next": ("selection_sort", "take_smallest"),
    "seek_each_in_list": ("unique_values", "remove_duplicates"),
    "shift_all": ("drain_front", "consume_queue"),
    "sum_up_again": ("prefix_totals", "sum_of_prefixes"),
    "table_of_steps": ("lattice_paths", "path_table"),
    "best_before": ("longest_increasing", "best_chain"),
    "pair_for_goal": ("two_sum", "pairs_with_product"),
    "shorter_each_time": ("triangle_total", "rows_of_triangle"),
    "rest_of_list": ("max_of_suffixes", "fold_suffixes"),
    "up_to_square": ("spiral_steps", "wrap_around_scan"),
    "pairs_in_one_line": ("count_inversions", "count_ordered_pairs"),
    # O(2^n)
    "two_calls": ("branch_twice", "binary_tree_value"),
    "take_or_leave": ("subset_sums", "take_or_skip"),
    "every_mask": ("try_all_masks", "mask_sum"),
    "mask_of_list": ("all_subsets", "try_subsets"),
    "growing_sums": ("all_sums", "reachable_sums"),
    "towers": ("hanoi", "tower_of_hanoi"),
    "all_words": ("binary_words", "all_codes"),
    "plus_or_minus": ("target_sum", "sign_assignments"),
    "doubling_list": ("double_list", "repeat_doubling"),
    "carry_over": ("binary_counter", "count_all_states"),
    "flag_counter": ("enumerate_flags", "all_flag_states"),
    "power_countdown": ("count_down_subsets", "all_states"),
    "all_smaller": ("compositions", "sum_over_smaller"),
    "open_branches": ("search_tree_size", "expand_tree"),
    "open_choices": ("enumerate_choices", "depth_first_subsets"),
    "either_end": ("coin_row_game", "take_from_ends"),
    "fill_the_room": ("knapsack", "fill_knapsack"),
}


HELPER = "combine"  # the small function that a fold calls


def natural_names(family: str, text: str, words: Iterable[str]) -> dict[str, str]:
    """{word: name} for the words of a template that stand for functions: F the one to call, G what it calls, H9 a fold's.

    Which of the family's names is taken depends on the text alone, not on the generator, so that natural and neutral
    problems of one seed are the same but for their names.
    """
    known = NATURAL[family]
    name = known[int(hashlib.sha256(text.encode()).hexdigest(), 16) % len(known)]
    natural = {"F": name, "G": f"{name}_step", "H9": HELPER}
    return {word: natural[word] for word in words if word in natural}
