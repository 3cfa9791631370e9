/* precision.h: what a model is computed with. */
#ifndef LK_PRECISION_H
#define LK_PRECISION_H

#include "model.h"

/* Plans m->graph and sets info.precision; AUTO begins with float32. EMB_EUNSUPPORTED where the processor or the model has not what
 * is asked. */
EMB_CHECK emb_status emb_precision_plan(emb_model *m, emb_precision asked, emb_error *err);
/* When preprocessing and info.dim are there, too, and before the graph's weights are dropped: for AUTO tries what the processor has
 * and plans again. */
EMB_CHECK emb_status emb_precision_settle(emb_model *m, emb_precision asked, emb_error *err);

#endif
