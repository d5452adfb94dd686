//! Factorisations of matrices and what follows from them, which MLX has on no device that it computes on.
//!
//! All work is in double precision, whatever the elements are, one matrix of a batch after the other. Signs and pivots that LAPACK determines are LAPACK's: a pivot is the first
//! largest element of its column, a Householder reflection makes the diagonal of R negative where the column began positive. Where nothing determines them (eigenvectors, singular
//! vectors), the largest element of each vector is positive.
//!
//! An input that has no factorisation is an error that names the matrix, unless the call asks for a code instead (`check_errors=False`).

mod cholesky;
mod eigen;
mod exponential;
mod lu;
mod matrix;
mod qr;
mod singular;
mod solve;

use super::Kernels;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.register("aten::linalg_cholesky_ex", 3, 2, cholesky::factor);
    kernels.register("aten::linalg_lu_factor_ex", 3, 3, lu::factor);
    kernels.register("aten::linalg_lu", 2, 3, lu::parts);
    kernels.register("aten::lu_unpack", 4, 3, lu::unpack);
    kernels.register("aten::linalg_lu_solve", 5, 1, solve::by_factors);
    kernels.register("aten::_linalg_solve_ex", 4, 4, solve::system);
    kernels.register("aten::linalg_inv_ex", 2, 2, solve::inverse);
    kernels.register("aten::linalg_solve_triangular", 5, 1, solve::triangular);
    kernels.register("aten::_linalg_det", 1, 3, lu::determinant);
    kernels.register("aten::_linalg_slogdet", 1, 4, lu::log_determinant);
    kernels.register("aten::linalg_qr", 2, 2, qr::factor);
    kernels.register("aten::geqrf", 1, 2, qr::reflections);
    kernels.register("aten::linalg_householder_product", 2, 1, qr::product);
    kernels.register("aten::_linalg_eigh", 3, 2, eigen::symmetric);
    kernels.register("aten::_linalg_svd", 4, 3, singular::values);
    kernels.register("aten::linalg_matrix_exp", 1, 1, exponential::of);
}
