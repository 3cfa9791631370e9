/* filter.h: the filter language of google.aip.dev/160 over an item's attributes.
 *
 *   filter      = sequence { "AND" sequence }
 *   sequence    = factor { factor }                 side by side means AND too
 *   factor      = term { "OR" term }                OR binds tighter than AND, as the AIP says
 *   term        = [ "NOT" | "-" ] ( restriction | "(" filter ")" )
 *   restriction = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" | ":" ) value
 *   field       = a word of letters, digits, _ . - not starting with a digit, or a quoted string
 *   value       = quoted string ('..' or "..", backslash escapes the next character) | number | true | false | word | *
 *   number      = decimal, as in JSON, with an optional + before it; a word of a number and AND, OR or NOT is an error
 *
 * Meaning: = and the order operators compare scalars of the value's own type; another type is not equal and has no order.
 * An absent attribute matches no comparison, != included: `price != 3` wants a price. NOT is the plain complement: it holds for items without the attribute.
 * A bare number or boolean also equals a string of the same spelling. In the value of =, != and : a * stands for any text, none
 * included ("*leather*", "A*-7"); \* is a star. true, false and * have no order. `field:value` is = on scalars and "contains" on
 * lists; `field:*` means the attribute is there. A list equals nothing, but has what it contains. */
#ifndef LK_FILTER_H
#define LK_FILTER_H

#include "attrs.h"

typedef struct idx_filter idx_filter;

/* IDX_EFILTER with the 1-based byte column and what was expected. */
IDX_CHECK idx_status idx_filter_parse(const char *text, idx_filter **out, idx_error *err);
void idx_filter_free(idx_filter *f);
/* *items: those that match, idx_bits_free() by the caller. */
IDX_CHECK idx_status idx_filter_eval(const idx_filter *f, const idx_attrs *a, idx_bits *items, idx_error *err);
/* Whether one item matches: what it has in idx_filter_eval(). */
bool idx_filter_holds(const idx_filter *f, const idx_attrs *a, uint32_t item);

#endif
