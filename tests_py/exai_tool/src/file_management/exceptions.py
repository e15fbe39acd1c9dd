class FileManagementError(Exception):
    def __init__(self, message, provider=None, error_code=None):
        super().__init__(message)
        self.message, self.provider, self.error_code = message, provider, error_code

    def to_dict(self):
        said = {"error_type": type(self).__name__, "message": self.message}
        return said | {"provider": self.provider, "error_code": self.error_code}


class FileUploadError(FileManagementError):
    def __init__(self, message, provider, error_code, retryable=True, file_path=None):
        super().__init__(message, provider, error_code)
        self.retryable, self.file_path = retryable, file_path


class FileDownloadError(FileManagementError):
    def __init__(self, message, provider, error_code, file_ref=None):
        super().__init__(message, provider, error_code)
        self.file_ref = file_ref


class FileDeleteError(FileDownloadError):
    pass


class FileDuplicateError(FileManagementError):
    def __init__(self, message, existing_file):
        super().__init__(message, error_code="DUPLICATE_FILE")
        self.existing_file = existing_file


class FileNotFoundError(FileManagementError):  # a fault: it is not the built-in one
    def __init__(self, file_ref=None, file_path=None, provider=None):
        super().__init__(f"File not found: {file_path or file_ref}", provider, "FILE_NOT_FOUND")
        self.file_ref, self.file_path = file_ref, file_path


class FileValidationError(FileManagementError):
    def __init__(self, message, file_path, validation_errors=None):
        super().__init__(message, error_code="VALIDATION_ERROR")
        self.file_path, self.validation_errors = file_path, validation_errors or []


class ProviderNotFoundError(FileManagementError):
    def __init__(self, provider, available_providers=None):
        super().__init__(f"Provider not found: {provider}", provider, "PROVIDER_NOT_FOUND")
        self.available_providers = available_providers or []
